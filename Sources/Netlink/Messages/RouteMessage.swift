// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import NetworkModel
package import NetworkTypes

/// The route in a message, with the properties that the model does not have.
package struct ParsedRoute: Hashable, Sendable {
    /// The route.
    package var route: Route
    /// The time until the route expires, in hundredths of a second (`rta_expires`, USER_HZ); nil for a route without a
    /// lifetime.
    ///
    /// It is negative for an expired route, which the kernel's garbage collection may keep for up to 30 s.
    package var expiry: Int32?
    /// The errno that packets get on this route (`rta_error`), as a positive number; 0 for none.
    package var error: Int32
    /// Whether this is a cached clone, not a configured route (`RTM_F_CLONED`).
    package var isCached: Bool
}

/// `RTM_NEWROUTE`, `RTM_DELROUTE`, `RTM_GETROUTE`: `struct rtmsg` and its attributes.
package enum RouteMessage {
    /// The length of `struct rtmsg`: family, destination and source length, TOS, table, protocol, scope, type, flags.
    package static let headerByteCount = 12

    /// The hop flags that the model has; the others depend on the hardware and do not matter here.
    private static let knownHopFlags: NextHop.Flags = [.dead, .onLink, .linkDown]

    // MARK: Reading

    /// The route in a message; nil for other families and for messages that contradict themselves.
    package static func parse(_ payload: Span<UInt8>) -> ParsedRoute? {
        guard payload.count >= headerByteCount, let family = payload.byte(at: 0).flatMap(AddressFamily.init),
            let destinationLength = payload.byte(at: 1), let sourceLength = payload.byte(at: 2),
            let typeOfService = payload.byte(at: 3), let table = payload.byte(at: 4), let maker = payload.byte(at: 5),
            let scope = payload.byte(at: 6), let type = payload.byte(at: 7), let flags = payload.uint32(at: 8)
        else { return nil }
        let unspecified = Prefix(default: family).address
        guard let anyDestination = Prefix(unspecified, length: Int(destinationLength)) else { return nil }
        var parsed = ParsedRoute(
            route: Route(
                destination: anyDestination, table: RouteTable(rawValue: UInt32(table)),
                type: RouteType(rawValue: type), scope: RoutingScope(rawValue: scope),
                protocol: RouteProtocol(rawValue: maker), typeOfService: typeOfService),
            error: 0, isCached: flags & UInt32(RTM_F_CLONED) != 0)
        var single = NextHop(interface: nil)
        var multiple: [NextHop]?
        var walk = AttributeWalk(after: headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch UInt32(attribute.type) {
            case RTA_DST.rawValue:
                guard let address = value.address(family),
                    let prefix = Prefix(address, length: Int(destinationLength))
                else { return nil }
                parsed.route.destination = prefix
            case RTA_SRC.rawValue where sourceLength > 0:
                guard let address = value.address(family), let prefix = Prefix(address, length: Int(sourceLength))
                else { return nil }
                parsed.route.source = prefix
            case RTA_OIF.rawValue: single.interface = interface(value)
            case RTA_GATEWAY.rawValue: single.gateway = value.address(family)
            case RTA_VIA.rawValue: single.gateway = via(value)
            case RTA_PRIORITY.rawValue: parsed.route.metric = value.uint32() ?? 0
            case RTA_PREFSRC.rawValue: parsed.route.preferredSource = value.address(family)
            case RTA_TABLE.rawValue: parsed.route.table = RouteTable(rawValue: value.uint32() ?? UInt32(table))
            case RTA_NH_ID.rawValue: parsed.route.nextHopID = value.uint32()
            case RTA_PREF.rawValue: parsed.route.preference = value.byte(at: 0)
            case RTA_MULTIPATH.rawValue: multiple = hops(value, family)
            case RTA_METRICS.rawValue: metrics(value, &parsed.route)
            case RTA_CACHEINFO.rawValue: cacheInformation(value, &parsed)
            default: break
            }
        }
        single.flags = NextHop.Flags(rawValue: UInt8(truncatingIfNeeded: flags)).intersection(knownHopFlags)
        parsed.route.nextHops = nextHops(of: parsed.route.type, single: single, multiple: multiple)
        return parsed
    }

    /// Error routes have no hops (IPv6 names `lo` for them, IPv4 nothing).
    private static func nextHops(of type: RouteType, single: NextHop, multiple: [NextHop]?) -> [NextHop] {
        switch type {
        case .blackhole, .unreachable, .prohibit, .throw: return []
        default: break
        }
        if let multiple { return multiple }
        return single.interface == nil && single.gateway == nil ? [] : [single]
    }

    private static func interface(_ value: Span<UInt8>) -> InterfaceIndex? {
        guard let index = value.uint32(), index > 0 else { return nil }
        return InterfaceIndex(rawValue: index)
    }

    /// `struct rtvia`: a 16-bit family and an address of it.
    private static func via(_ value: Span<UInt8>) -> IPAddress? {
        guard value.count > 2, let number = value.uint16().flatMap({ UInt8(exactly: $0) }),
            let family = AddressFamily(kernelNumber: number)
        else { return nil }
        return value.extracting(2..<value.count).address(family)
    }

    /// `RTA_MULTIPATH`: entries of `struct rtnexthop` (length, flags, weight - 1, index), each with attributes.
    private static func hops(_ value: Span<UInt8>, _ family: AddressFamily) -> [NextHop] {
        let entryHeader = 8
        var hops: [NextHop] = []
        var position = 0
        while position < value.count {
            let rest = value.extracting(position..<value.count)
            guard let length = rest.uint16().map({ Int($0) }), length >= entryHeader, length <= rest.count,
                let flags = rest.byte(at: 2), let weight = rest.byte(at: 3), let index = rest.uint32(at: 4)
            else { break }
            var hop = NextHop(
                interface: index > 0 ? InterfaceIndex(rawValue: index) : nil, weight: Int(weight) + 1,
                flags: NextHop.Flags(rawValue: flags).intersection(knownHopFlags))
            let entry = rest.extracting(0..<length)
            var walk = AttributeWalk(after: entryHeader)
            while let attribute = walk.next(in: entry) {
                switch UInt32(attribute.type) {
                case RTA_GATEWAY.rawValue: hop.gateway = entry.extracting(attribute.payload).address(family)
                case RTA_VIA.rawValue: hop.gateway = via(entry.extracting(attribute.payload))
                default: break
                }
            }
            hops.append(hop)
            position += length + (4 - length % 4) % 4
        }
        return hops
    }

    private static func metrics(_ value: Span<UInt8>, _ route: inout Route) {
        var walk = AttributeWalk()
        while let attribute = walk.next(in: value) {
            let number = value.extracting(attribute.payload).uint32()
            switch attribute.type {
            case Int(RTAX_MTU): route.mtu = number
            case Int(RTAX_ADVMSS): route.advertisedMSS = number
            default: break
            }
        }
    }

    /// `struct rta_cacheinfo`: references, last use, expiry, error, and more.
    private static func cacheInformation(_ value: Span<UInt8>, _ parsed: inout ParsedRoute) {
        if let expiry = value.int32(at: 8), expiry != 0 { parsed.expiry = expiry }
        if let error = value.int32(at: 12), error != .min { parsed.error = abs(error) }
    }

    // MARK: Writing

    /// The request for all routes of a family, optionally of one table and through one link only.
    package static func dump(
        _ family: AddressFamily, table: RouteTable?, interface: InterfaceIndex?
    ) -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETROUTE, flags: NLM_F_DUMP)
        header(&writer, family: family)
        if let table { writer.attribute(Int(RTA_TABLE.rawValue), table.rawValue) }
        if let interface { writer.attribute(Int(RTA_OIF.rawValue), interface.rawValue) }
        return writer
    }

    /// The request for the route that an unmarked packet of a local program to `destination` would take.
    ///
    /// `RTM_F_LOOKUP_TABLE`: the reply names the real table. IPv6 always does so, and refuses the flag.
    package static func lookup(_ destination: IPAddress) -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETROUTE, flags: 0)
        header(
            &writer, family: destination.family, destinationLength: destination.family.addressBitCount,
            flags: destination.family == .v4 ? UInt32(RTM_F_LOOKUP_TABLE) : 0)
        writer.attribute(Int(RTA_DST.rawValue), destination)
        return writer
    }

    /// The request for the route that a packet would take, with all that policy rules may look at.
    ///
    /// - Parameters:
    ///   - packet: the packet.
    ///   - wantsMatch: whether to tell of the configured route, with its prefix, in place of the way of this packet.
    /// - Returns: the request.
    package static func lookup(_ packet: RoutedPacket, wantsMatch: Bool) -> MessageWriter {
        let family = packet.destination.family
        var flags = family == .v4 ? UInt32(RTM_F_LOOKUP_TABLE) : 0
        if wantsMatch { flags |= UInt32(RTM_F_FIB_MATCH) }
        var writer = MessageWriter(type: RTM_GETROUTE, flags: 0)
        header(
            &writer, family: family, destinationLength: family.addressBitCount,
            sourceLength: packet.source == nil ? 0 : family.addressBitCount, flags: flags)
        writer.attribute(Int(RTA_DST.rawValue), packet.destination)
        if let source = packet.source { writer.attribute(Int(RTA_SRC.rawValue), source) }
        writer.attribute(Int(RTA_IP_PROTO.rawValue), packet.transport)
        if packet.port > 0 {
            // In network byte order.
            writer.attribute(
                Int(RTA_DPORT.rawValue), [UInt8(packet.port >> 8), UInt8(truncatingIfNeeded: packet.port)])
        }
        return writer
    }

    /// The request to add a route.
    package static func add(_ route: Route, _ addition: NetlinkAddition) -> MessageWriter {
        var writer = MessageWriter(type: RTM_NEWROUTE, flags: addition.flags | NLM_F_ACK)
        body(&writer, route, scope: route.scope)
        if let source = route.preferredSource { writer.attribute(Int(RTA_PREFSRC.rawValue), source) }
        if let preference = route.preference, route.family == .v6 {
            writer.attribute(Int(RTA_PREF.rawValue), preference)
        }
        if route.mtu != nil || route.advertisedMSS != nil {
            writer.attribute(Int(RTA_METRICS.rawValue)) { metrics in
                if let mtu = route.mtu { metrics.attribute(Int(RTAX_MTU), mtu) }
                if let size = route.advertisedMSS { metrics.attribute(Int(RTAX_ADVMSS), size) }
            }
        }
        return writer
    }

    /// The request to delete a route: the one of the same destination, metric, protocol and next hops, in any scope.
    package static func delete(_ route: Route) -> MessageWriter {
        var writer = MessageWriter(type: RTM_DELROUTE, flags: NLM_F_ACK)
        body(
            &writer, route,
            scope: route.family == .v4 ? RoutingScope(rawValue: UInt8(RT_SCOPE_NOWHERE.rawValue)) : .universe)
        return writer
    }

    private static func body(_ writer: inout MessageWriter, _ route: Route, scope: RoutingScope) {
        let onLink = route.nextHops.count == 1 && route.nextHops[0].flags.contains(.onLink)
        header(
            &writer, family: route.family, destinationLength: route.destination.length,
            sourceLength: route.source?.length ?? 0, typeOfService: route.typeOfService, table: route.table,
            maker: route.protocol, scope: scope, type: route.type, flags: onLink ? UInt32(RTNH_F_ONLINK) : 0)
        if route.destination.length > 0 {
            writer.attribute(Int(RTA_DST.rawValue), route.destination.network.address)
        }
        if let source = route.source { writer.attribute(Int(RTA_SRC.rawValue), source.network.address) }
        if route.table.rawValue > UInt32(UInt8.max) { writer.attribute(Int(RTA_TABLE.rawValue), route.table.rawValue) }
        if route.metric > 0 { writer.attribute(Int(RTA_PRIORITY.rawValue), route.metric) }
        if let id = route.nextHopID {
            writer.attribute(Int(RTA_NH_ID.rawValue), id)
        } else if route.nextHops.count == 1 {
            hop(&writer, route.nextHops[0], of: route.family)
            if let interface = route.nextHops[0].interface {
                writer.attribute(Int(RTA_OIF.rawValue), interface.rawValue)
            }
        } else if route.nextHops.count > 1 {
            writer.attribute(Int(RTA_MULTIPATH.rawValue)) { list in
                for entry in route.nextHops {
                    list.lengthPrefixed {
                        $0.append(entry.flags.intersection(.onLink).rawValue)
                        $0.append(UInt8(clamping: entry.weight - 1))
                        $0.append(entry.interface?.rawValue ?? 0)
                        hop(&$0, entry, of: route.family)
                    }
                }
            }
        }
    }

    private static func hop(_ writer: inout MessageWriter, _ hop: NextHop, of family: AddressFamily) {
        guard let gateway = hop.gateway else { return }
        guard gateway.family != family else {
            writer.attribute(Int(RTA_GATEWAY.rawValue), gateway)
            return
        }
        writer.attribute(Int(RTA_VIA.rawValue)) {
            $0.append(UInt16(gateway.family.kernelNumber))
            for byte in gateway.networkBytes { $0.append(byte) }
        }
    }

    private static func header(
        _ writer: inout MessageWriter, family: AddressFamily, destinationLength: Int = 0, sourceLength: Int = 0,
        typeOfService: UInt8 = 0, table: RouteTable = RouteTable(rawValue: 0),
        maker: RouteProtocol = RouteProtocol(rawValue: 0), scope: RoutingScope = .universe,
        type: RouteType = RouteType(rawValue: 0), flags: UInt32 = 0
    ) {
        writer.append(family.kernelNumber)
        writer.append(UInt8(truncatingIfNeeded: destinationLength))
        writer.append(UInt8(truncatingIfNeeded: sourceLength))
        writer.append(typeOfService)
        writer.append(UInt8(exactly: table.rawValue) ?? UInt8(RT_TABLE_COMPAT.rawValue))
        writer.append(maker.rawValue)
        writer.append(scope.rawValue)
        writer.append(type.rawValue)
        writer.append(flags)
    }
}
