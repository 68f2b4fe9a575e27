// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
public import LinuxSystem
public import NetworkModel
internal import NetworkTypes
public import SystemPackage

/// Which of the kernel's tables a notification is about.
public struct HostTables: OptionSet, Hashable, Sendable, CustomStringConvertible {
    /// One bit a table.
    public let rawValue: UInt8

    /// Makes a set from its bits.
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Links.
    public static let links = HostTables(rawValue: 1)
    /// Addresses of both families.
    public static let addresses = HostTables(rawValue: 2)
    /// Routes of both families.
    public static let routes = HostTables(rawValue: 4)
    /// Policy rules of both families.
    public static let rules = HostTables(rawValue: 8)
    /// Nexthop objects.
    public static let nextHops = HostTables(rawValue: 16)
    /// Lookups, which depend on all the others.
    public static let lookups = HostTables(rawValue: 32)
    /// All tables.
    public static let all: HostTables = [.links, .addresses, .routes, .rules, .nextHops, .lookups]

    /// The names of the tables in the set: "links, routes".
    public var description: String {
        let names = [
            (HostTables.links, "links"), (.addresses, "addresses"), (.routes, "routes"), (.rules, "rules"),
            (.nextHops, "nexthops"), (.lookups, "lookups"),
        ]
        return names.filter { contains($0.0) }.map(\.1).joined(separator: ", ")
    }

    /// The table that a message type is about; empty for types that say nothing about the host's state.
    package init(messageType type: UInt16) {
        switch Int(type) {
        case RTM_NEWLINK, RTM_DELLINK: self = .links
        case RTM_NEWADDR, RTM_DELADDR: self = .addresses
        case RTM_NEWROUTE, RTM_DELROUTE: self = .routes
        case RTM_NEWRULE, RTM_DELRULE: self = .rules
        case RTM_NEWNEXTHOP, RTM_DELNEXTHOP: self = .nextHops
        default: self = []
        }
    }
}

/// The result of draining a subscription once.
public struct NetlinkNotifications: Hashable, Sendable {
    /// The tables that notifications were about; all of them if some were lost.
    public var tables: HostTables = []
    /// How many notifications were read.
    public var count = 0
    /// Whether notifications were lost (ENOBUFS, a cut-off or unreadable datagram).
    public var wereLost = false
    /// The changes of IPv4 routes that notifications described, in order.
    public var routeChanges: [RouteEvent] = []
    /// Whether there were other notifications of routes, which a dump has to explain.
    public var hasOtherRoutes = false

    /// Makes the result of an empty turn.
    public init() {}
}

/// An rtnetlink socket that only receives notifications.
///
/// A notification is a hint that a table has changed; the table's content is then dumped over a ``NetlinkSocket``. The
/// receive buffer has its default size and overflows when thousands of routes change at once, which is normal
/// operation. `NETLINK_NO_ENOBUFS` stays off, because the error reports the overflow.
public struct NetlinkSubscription: ~Copyable, @unchecked Sendable {
    // @unchecked: as for NetlinkSocket, this value alone owns the transport.
    private let transport: any NetlinkTransport
    private var buffer: [UInt8]
    /// The subscription's counters.
    public private(set) var counters = NetlinkCounters()

    /// Subscribes in the calling thread's network namespace.
    ///
    /// - Throws: The error of socket(2), bind(2) or setsockopt(2).
    public init(to groups: [NetlinkGroup] = NetlinkGroup.hostState) throws(SystemCallError) {
        self.init(over: try MnlTransport(groups: groups))
    }

    /// Makes a subscription over a transport, which must not be shared.
    package init(over transport: any NetlinkTransport) {
        self.transport = transport
        buffer = [UInt8](repeating: 0, count: 16384)
    }

    /// The descriptor to watch for readability; nil in tests.
    public var descriptor: FileDescriptor? { transport.descriptor }

    /// Reads the notifications that have arrived, without waiting for more.
    ///
    /// - Parameter budget: The number of datagrams to read at most, so that a storm does not occupy the thread.
    /// - Returns: The tables that changed.
    /// - Throws: The error of recvmsg(2); ENOBUFS is a result.
    public mutating func drain(budget: Int = 256) throws(SystemCallError) -> NetlinkNotifications {
        var found = NetlinkNotifications()
        for _ in 0..<budget {
            switch transport.receive(into: &buffer) {
            case .empty:
                return found
            case .overflow:
                counters.overflows += 1
                found.wereLost = true
                found.tables = .all
            case .failed(let error):
                throw SystemCallError("recvmsg", "NETLINK_ROUTE", error)
            case .datagram(_, let sender) where sender != 0:
                counters.strays += 1
            case .datagram(let byteCount, _):
                // A cut-off datagram costs at most the messages behind the cut.
                if !Self.read(buffer.span.extracting(0..<min(byteCount, buffer.count)), &found) {
                    counters.malformed += 1
                }
                if byteCount > buffer.count {
                    counters.truncations += 1
                    found.hasOtherRoutes = true
                }
            }
        }
        return found
    }

    /// The most changes of routes that are taken from one turn's notifications; more are left to a dump.
    private static let mostRouteChanges = 32

    /// Records a notification of a route, if it is complete.
    ///
    /// That is an IPv4 route without an expiry that does not replace another route (the notification would not name
    /// that one). Routes of the local table are ignored, because the monitor does not read that table.
    private static func note(_ header: MessageHeader, _ payload: Span<UInt8>, _ found: inout NetlinkNotifications) {
        guard !found.hasOtherRoutes else { return }
        guard found.routeChanges.count < mostRouteChanges, payload.byte(at: 0) == AddressFamily.v4.kernelNumber,
            header.flags & UInt16(NLM_F_REPLACE | NLM_F_APPEND) == 0, let parsed = RouteMessage.parse(payload),
            !parsed.isCached, parsed.expiry == nil, parsed.route.table != .local
        else {
            found.hasOtherRoutes = true
            return
        }
        let isNew = header.type == UInt16(RTM_NEWROUTE)
        found.routeChanges.append(isNew ? .added(parsed.route) : .removed(parsed.route))
    }

    /// Reads a datagram's messages; false if it could not be read to its end.
    private static func read(_ datagram: Span<UInt8>, _ found: inout NetlinkNotifications) -> Bool {
        var walk = MessageWalk()
        while let (header, payload) = walk.next(in: datagram) {
            found.count += 1
            let tables = HostTables(messageType: header.type)
            found.tables.formUnion(tables)
            if tables == .routes { note(header, datagram.extracting(payload), &found) }
        }
        guard walk.isDamaged else { return true }
        found.wereLost = true
        found.tables = .all
        return false
    }
}
