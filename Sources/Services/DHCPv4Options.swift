// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes
internal import Wire

/// The options in the DHCP server's messages.
struct DHCPv4Options {
    private typealias Code = DHCPv4Message.OptionCode
    /// The greatest length of one option in bytes.
    private static let mostBytes = 255

    let settings: ServiceSettings

    /// The options that configure a client, without those of a lease.
    var configuration: [UInt8: [UInt8]] {
        let family = settings.v4
        var data: [UInt8: [UInt8]] = [:]
        if let server = family.serverAddress { data[Code.serverIdentifier] = Self.bytes(server) }
        if let prefix = family.guestAddress { data[Code.subnetMask] = Self.bytes(Prefix.mask4(prefix.length)) }
        if let router = family.router { data[Code.router] = Self.bytes(router) }
        if !family.routes.isEmpty { data[Code.classlessRoutes] = family.routes.flatMap(Self.bytes) }
        if let mtu = settings.mtu.map({ UInt16(clamping: $0) }) {
            data[Code.interfaceMTU] = [UInt8(mtu >> 8), UInt8(mtu & 0xFF)]
        }
        if !family.dnsServers.isEmpty {
            data[Code.domainNameServer] = family.dnsServers.prefix(Self.mostBytes / 4).flatMap(Self.bytes)
        }
        if let name = settings.hostName, !name.isEmpty, name.utf8.count <= Self.mostBytes {
            data[Code.hostName] = Array(name.utf8)
        }
        if let name = settings.fullName.flatMap({ DNSName($0) }), name.wireBytes.count <= Self.mostBytes - 3 {
            // The name is encoded, and the server makes no DNS updates (RFC 4702 §2.1, §2.2).
            data[Code.clientFQDN] = [0x04, 0xFF, 0xFF] + name.wireBytes
        }
        var search: [UInt8] = []
        for name in settings.searchDomains.compactMap({ DNSName($0) })
        where search.count + name.wireBytes.count <= Self.mostBytes {
            search += name.wireBytes
        }
        if !search.isEmpty { data[Code.domainSearch] = search }
        return data
    }

    /// The options of a lease: its time, when to renew (half) and when to ask any server (seven eighths, RFC 2131
    /// §4.4.5).
    static func lease(_ time: UInt32) -> [UInt8: [UInt8]] {
        var data = [Code.leaseTime: bytes(time)]
        if time != ServiceSettings.infinite {
            data[Code.renewalTime] = bytes(time / 2)
            data[Code.rebindingTime] = bytes(UInt32(UInt64(time) * 7 / 8))
        }
        return data
    }

    /// All options in the order of sending.
    ///
    /// The kind comes first unless the client ordered it, then the client's list, then the rest in ascending order.
    static func ordered(_ data: [UInt8: [UInt8]], wanted: [UInt8]) -> [DHCPv4Message.Option] {
        var order = wanted.contains(Code.messageType) ? [] : [Code.messageType]
        order += wanted + data.keys.sorted()
        var seen: Set<UInt8> = []
        return order.compactMap { code in
            guard let value = data[code], seen.insert(code).inserted else { return nil }
            return DHCPv4Message.Option(code, value)
        }
    }

    static func bytes(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }

    static func bytes(_ address: IPv4Address) -> [UInt8] {
        bytes(address.rawValue)
    }

    /// A route as in RFC 3442: the length, the significant bytes of the destination, the router.
    private static func bytes(_ route: ServiceSettings.StaticRoute) -> [UInt8] {
        guard let address = route.destination.address.v4 else { return [] }
        let length = route.destination.length
        return [UInt8(length)] + bytes(address).prefix((length + 7) / 8) + bytes(route.router)
    }
}
