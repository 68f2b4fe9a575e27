// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
public import NetworkModel
public import NetworkTypes
internal import SystemPackage

/// The routes of a dump, and the time until the first of them expires.
public struct RouteListing: Hashable, Sendable {
    /// The routes in the kernel's order, without expired ones.
    public var routes: [Route]
    /// The time in milliseconds until the first route with a lifetime expires; nil if none has one.
    ///
    /// Such routes are IPv6 routes of Router Advertisements, whose end the kernel does not announce.
    public var firstExpiryMilliseconds: Int64?

    /// Makes a listing.
    public init(routes: [Route] = [], firstExpiryMilliseconds: Int64? = nil) {
        self.routes = routes
        self.firstExpiryMilliseconds = firstExpiryMilliseconds
    }
}

extension NetlinkSocket {
    /// All links, in the kernel's order (`ip link`).
    ///
    /// - Throws: The error of the kernel or of the socket.
    public mutating func links() throws(NetlinkError) -> [Link] {
        try dump("link show", LinkMessage.get(nil)) { type, payload in
            type == UInt16(RTM_NEWLINK) ? LinkMessage.parse(payload) : nil
        }
    }

    /// One link; nil if there is none with the index.
    ///
    /// - Throws: The error of the kernel or of the socket, except ENODEV.
    public mutating func link(_ index: InterfaceIndex) throws(NetlinkError) -> Link? {
        do throws(NetlinkError) {
            return try get("link show dev \(index)", LinkMessage.get(index)) { type, payload in
                type == UInt16(RTM_NEWLINK) ? LinkMessage.parse(payload) : nil
            }
        } catch  where error.isAbsent {
            return nil
        }
    }

    /// The addresses of a family, of one link or of all, in the kernel's order (`ip address`).
    ///
    /// - Throws: The error of the kernel or of the socket.
    public mutating func addresses(
        _ family: AddressFamily, on interface: InterfaceIndex? = nil
    ) throws(NetlinkError) -> [InterfaceAddress] {
        let operation = "\(family.option) address show\(interface.map { " dev \($0)" } ?? "")"
        return try dump(operation, AddressMessage.dump(family, interface: interface)) { type, payload in
            guard type == UInt16(RTM_NEWADDR), let address = AddressMessage.parse(payload) else { return nil }
            // The kernel ignores filters when it does not check strictly, and the family when it does not know it.
            return address.family == family && (interface ?? address.interface) == address.interface ? address : nil
        }
    }

    /// The configured routes of a family in the kernel's order (`ip route show table TABLE dev INTERFACE`).
    ///
    /// - Parameters:
    ///   - family: The family.
    ///   - table: The table; nil for all but the local one.
    ///   - interface: The output link that each route must have among its next hops; nil for any.
    /// - Returns: The routes.
    /// - Throws: The error of the kernel or of the socket.
    public mutating func routes(
        _ family: AddressFamily, table: RouteTable? = nil, through interface: InterfaceIndex? = nil
    ) throws(NetlinkError) -> RouteListing {
        var memory = DumpMemory<Route>()
        let firstExpiry = try routes(family, table: table, through: interface, into: &memory) { $0 }
        return RouteListing(routes: memory.values, firstExpiryMilliseconds: firstExpiry)
    }

    /// The configured routes of a family as values; messages that the last dump held already are not parsed again.
    ///
    /// - Parameters:
    ///   - family: The family.
    ///   - table: The table; nil for all but the local one.
    ///   - interface: The output link that each route must have among its next hops; nil for any.
    ///   - memory: The last dump of the same table; afterwards this one.
    ///   - make: Makes the value of a route; nil to leave it out.
    /// - Returns: The time in milliseconds until the first route with a lifetime expires; nil if none has one.
    /// - Throws: The error of the kernel or of the socket.
    package mutating func routes<Value>(
        _ family: AddressFamily, table: RouteTable? = nil, through interface: InterfaceIndex? = nil,
        into memory: inout DumpMemory<Value>, _ make: (Route) -> Value?
    ) throws(NetlinkError) -> Int64? {
        var operation = "\(family.option) route show table \(table.map { String($0.rawValue) } ?? "all")"
        if let interface { operation += " dev \(interface)" }
        var firstExpiry: Int64?
        let local = UInt8(truncatingIfNeeded: RouteTable.local.rawValue)
        // The kernel matches IPv6 multipath routes against a link filter by their first hop only, so the filter is
        // applied here.
        let request = RouteMessage.dump(family, table: table, interface: nil)
        let number = family.kernelNumber
        var lastHops: [NextHop] = []
        do throws(NetlinkError) {
            try dump(operation, request) {
                memory.begin()
                firstExpiry = nil
            } take: { type, payload in
                // The cheap tests come first: most routes of a host are those of its local table.
                guard type == UInt16(RTM_NEWROUTE), payload.byte(at: 0) == number,
                    table != nil || payload.byte(at: 4) != local
                else { return }
                memory.take(payload) { payload in
                    guard var parsed = RouteMessage.parse(payload), !parsed.isCached else { return (nil, true) }
                    if let table, parsed.route.table != table { return (nil, true) }
                    if let interface, !parsed.route.nextHops.contains(where: { $0.interface == interface }) {
                        return (nil, true)
                    }
                    if let expiry = parsed.expiry {
                        guard expiry > 0 else { return (nil, false) }
                        firstExpiry = min(firstExpiry ?? .max, Int64(expiry) * 10)
                    }
                    // A table has few routers, so consecutive routes with equal next hops share one array.
                    if parsed.route.nextHops == lastHops { parsed.route.nextHops = lastHops }
                    lastHops = parsed.route.nextHops
                    return (make(parsed.route), parsed.expiry == nil)
                }
            }
        } catch  where table != nil && error.kind == .refused && error.errno == .noSuchFileOrDirectory {
            // A table that has never had a route does not exist.
            memory.begin()
        }
        memory.end()
        return firstExpiry
    }

    /// The policy rules of a family in order of priority (`ip rule`); none on a kernel without policy routing.
    ///
    /// - Throws: The error of the kernel or of the socket.
    public mutating func rules(_ family: AddressFamily) throws(NetlinkError) -> [RoutingRule] {
        do throws(NetlinkError) {
            let rules = try dump("\(family.option) rule show", RuleMessage.dump(family)) { type, payload in
                type == UInt16(RTM_NEWRULE) ? RuleMessage.parse(payload) : nil
            }
            return rules.filter { $0.family == family }
        } catch  where error.isUnsupported {
            return []
        }
    }

    /// The nexthop objects by identifier (`ip nexthop`); none on a kernel without them.
    ///
    /// - Throws: The error of the kernel or of the socket.
    public mutating func nextHopObjects() throws(NetlinkError) -> [NextHopObject] {
        do throws(NetlinkError) {
            let objects = try dump("nexthop show", NextHopMessage.dump()) { type, payload in
                type == UInt16(RTM_NEWNEXTHOP) ? NextHopMessage.parse(payload) : nil
            }
            return objects.sorted { $0.id < $1.id }
        } catch  where error.isUnsupported {
            return []
        }
    }

    /// The neighbour entries of a family, of one link or of all (`ip neighbour`).
    ///
    /// - Throws: The error of the kernel or of the socket.
    public mutating func neighbours(
        _ family: AddressFamily, on interface: InterfaceIndex? = nil
    ) throws(NetlinkError) -> [Neighbour] {
        let operation = "\(family.option) neighbour show\(interface.map { " dev \($0)" } ?? "")"
        return try dump(operation, NeighbourMessage.dump(family, interface: interface)) { type, payload in
            guard type == UInt16(RTM_NEWNEIGH), let entry = NeighbourMessage.parse(payload),
                entry.address.family == family, (interface ?? entry.interface) == entry.interface
            else { return nil }
            return entry
        }
    }

    /// How an unmarked packet to a destination would leave (`ip route get`): the kernel evaluates rules and tables.
    ///
    /// - Throws: The error of the socket; the kernel's refusal is an answer.
    public mutating func lookup(_ destination: IPAddress) throws(NetlinkError) -> RouteLookup {
        do throws(NetlinkError) {
            let answer = try get("route get \(destination)", RouteMessage.lookup(destination)) { type, payload in
                type == UInt16(RTM_NEWROUTE) ? RouteMessage.parse(payload).map(RouteLookup.Answer.init) : nil
            }
            return RouteLookup(destination: destination, answer: answer ?? .unreachable(errno: ENETUNREACH))
        } catch  where error.kind == .refused {
            return RouteLookup(destination: destination, answer: .unreachable(errno: error.errno.rawValue))
        }
    }
}

extension RouteLookup.Answer {
    /// The answer in a reply; IPv6 reports an error route by replying with it.
    init(_ reply: ParsedRoute) {
        let route = reply.route
        switch route.type {
        case .blackhole: self = .unreachable(errno: reply.error == 0 ? EINVAL : reply.error)
        case .unreachable: self = .unreachable(errno: reply.error == 0 ? EHOSTUNREACH : reply.error)
        case .prohibit: self = .unreachable(errno: reply.error == 0 ? EACCES : reply.error)
        case .throw: self = .unreachable(errno: reply.error == 0 ? EAGAIN : reply.error)
        default:
            guard let hop = route.nextHops.first, let interface = hop.interface, reply.error == 0 else {
                self = .unreachable(errno: reply.error == 0 ? ENETUNREACH : reply.error)
                return
            }
            self = .route(
                interface: interface, gateway: hop.gateway, source: route.preferredSource, table: route.table)
        }
    }
}

extension NetlinkError {
    /// Whether the kernel does not know the table or the family.
    var isUnsupported: Bool {
        kind == .refused && [.notSupportedOnSocket, .addressFamilyNotSupported, .invalidArgument].contains(errno)
    }
}

extension AddressFamily {
    /// ip(8)'s option: "-4" or "-6".
    var option: String { self == .v4 ? "-4" : "-6" }
}
