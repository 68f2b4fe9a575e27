// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Objects in the words of ip(8): for messages, for the plan's canonical text, and for comparison in tests. This file is
// the only one that knows these words.

internal import NetworkTypes

/// How ``Route/text(devices:)`` names the link of a next hop.
public enum DeviceWords: Hashable, Sendable {
    /// Names no link.
    case none
    /// Names one link for all next hops: the namespace's interface, whatever the route says.
    case name(String)
    /// Names links by the index in the next hop, as rtnetlink requests carry it.
    case index
}

extension Route {
    /// The route in the words of ip-route(8), without a device: canonical, for messages and comparison.
    public var text: String { text(devices: .none) }

    /// The route in the words of ip-route(8), with one link for all next hops, or none.
    public func text(device: String?) -> String { text(devices: device.map { .name($0) } ?? .none) }

    /// The route in the words of ip-route(8).
    ///
    /// Defaults are left out as iproute2 does: protocol boot, scope universe, metric 0, next hop weight 1.
    ///
    /// - Parameter devices: how to name the links of the next hops.
    /// - Returns: What `ip route` would print.
    public func text(devices: DeviceWords) -> String {
        var words: [String] = []
        if type != .unicast { words.append(type.word) }
        words.append(destination.routeText)
        if let source { words.append("from \(source.routeText)") }
        if typeOfService != 0 { words.append("tos \(typeOfService)") }
        if let nextHopID { words.append("nhid \(nextHopID)") }
        if nextHopID == nil, nextHops.count == 1 { words += nextHops[0].words(family, devices) }
        if table != .main { words.append("table \(table.rawValue)") }
        if `protocol` != .boot { words.append("proto \(`protocol`.word)") }
        if scope != .universe { words.append("scope \(scope.word)") }
        if let preferredSource { words.append("src \(preferredSource)") }
        if metric != 0 { words.append("metric \(metric)") }
        if let mtu { words.append("mtu \(mtu)") }
        if let advertisedMSS { words.append("advmss \(advertisedMSS)") }
        if let preference, preference != 0 { words.append("pref \(preference == 1 ? "high" : "low")") }
        if nextHopID == nil, nextHops.count > 1 {
            for hop in nextHops {
                words.append("nexthop")
                words += hop.words(family, devices)
                words.append("weight \(hop.weight)")
            }
        }
        return words.joined(separator: " ")
    }
}

extension NextHop {
    fileprivate func words(_ family: AddressFamily, _ devices: DeviceWords) -> [String] {
        var words: [String] = []
        if let gateway {
            words.append(gateway.family == family ? "via \(gateway)" : "via \(gateway.family.ipWord) \(gateway)")
        }
        switch devices {
        case .none: break
        case .name(let name): words.append("dev \(name)")
        case .index: if let interface { words.append("dev \(interface)") }
        }
        if flags.contains(.onLink) { words.append("onlink") }
        return words
    }
}

extension InterfaceAddress {
    /// The address as `ip address add` takes it, with the link by index: "192.0.2.1/24 dev 2 noprefixroute".
    ///
    /// - Parameter lifetime: the lifetimes to name; nil for those that the flag `deprecated` implies.
    /// - Returns: What follows `ip address add`.
    public func text(lifetime: AddressLifetime? = nil) -> String {
        var words = addressWords(address, prefix, peer: peer, broadcast: broadcast)
        words += ["dev", "\(interface)"]
        if scope == .link || scope == .host { words += ["scope", scope.word] }
        for (flag, word) in [
            (Flags.noDuplicateDetection, "nodad"), (.optimistic, "optimistic"), (.home, "home"),
            (.manageTemporary, "mngtmpaddr"), (.noPrefixRoute, "noprefixroute"), (.multicastAutoJoin, "autojoin"),
        ] where flags.contains(flag) {
            words.append(word)
        }
        if let lifetime = lifetime ?? (flags.contains(.deprecated) ? .deprecated : nil), lifetime != .infinite {
            words += ["valid_lft", lifetime.valid.map { String($0) } ?? "forever"]
            words += ["preferred_lft", lifetime.preferred.map { String($0) } ?? "forever"]
        }
        return words.joined(separator: " ")
    }
}

extension PlannedAddress {
    /// The address as ip-address(8) prints it, without label and lifetimes.
    public var text: String {
        var words = [family.ipWord] + addressWords(address, prefix, peer: peer, broadcast: broadcast)
        words += ["scope", scope.word]
        if flags.contains(.secondary) { words.append(family == .v4 ? "secondary" : "temporary") }
        if flags.contains(.deprecated) { words.append("deprecated") }
        if flags.contains(.noPrefixRoute) { words.append("noprefixroute") }
        if flags.contains(.home) { words.append("home") }
        return words.joined(separator: " ")
    }

    /// The words that `ip address add` takes for the address, without a device.
    public var command: String {
        var words = addressWords(address, prefix, peer: peer, broadcast: broadcast)
        if flags.contains(.noPrefixRoute) { words.append("noprefixroute") }
        if flags.contains(.home) { words.append("home") }
        if family == .v6, flags.contains(.noDuplicateDetection) { words.append("nodad") }
        return words.joined(separator: " ")
    }
}

/// `192.0.2.1/24 brd 192.0.2.255`, `192.0.2.1 peer 192.0.2.2/32`.
private func addressWords(
    _ address: IPAddress, _ prefix: Prefix, peer: IPAddress?, broadcast: IPv4Address?
) -> [String] {
    var words = peer.map { ["\(address)", "peer", "\($0)/\(prefix.length)"] } ?? ["\(prefix)"]
    if let broadcast { words += ["brd", "\(broadcast)"] }
    return words
}

extension NamespaceOperation {
    /// The operation in the words of ip(8).
    ///
    /// - Parameter device: the interface's name.
    /// - Returns: What follows `ip` on a command line, or a sentence like it.
    public func text(device: String) -> String {
        switch self {
        case .setMAC(let mac): "link set \(device) address \(mac)"
        case .setMTU(let mtu): "link set \(device) mtu \(mtu)"
        case .setLinkUp: "link set \(device) up"
        case .setLinkUpBare: "link set \(device) addrgenmode none up"
        case .setPromoteSecondaries: "sysctl net.ipv4.conf.\(device).promote_secondaries=1"
        case .addAddress(let address):
            "addr add \(address.command) dev \(device)"
                + (address.flags.contains(.deprecated) ? " preferred_lft 0" : "")
        case .deprecateAddress(let address): "addr replace \(address.command) dev \(device) preferred_lft 0"
        case .restoreAddress(let address): "addr replace \(address.command) dev \(device) preferred_lft forever"
        case .addRoute(let route): "route add \(route.text(device: device))"
        case .replaceRoute(let route): "route replace \(route.text(device: device))"
        case .resetFlows(let address): "reset flows of \(address)"
        case .removeRoute(let route): "route del \(route.text(device: device))"
        case .removeAddress(let address): "addr del \(address.command) dev \(device)"
        }
    }
}

extension AddressFamily {
    /// The word of ip(8): "inet" or "inet6".
    fileprivate var ipWord: String { self == .v4 ? "inet" : "inet6" }
}

extension Prefix {
    /// As ip-route(8) prints destinations: `default`, an address alone, or an address with its length.
    fileprivate var routeText: String {
        if isDefault { return "default" }
        return length == family.addressBitCount ? "\(address)" : description
    }
}

extension RoutingScope {
    /// The word of ip-route(8), or the number.
    public var word: String {
        switch self {
        case .universe: "global"
        case .site: "site"
        case .link: "link"
        case .host: "host"
        default: String(rawValue)
        }
    }
}

extension RouteProtocol {
    /// The word of ip-route(8), or the number.
    fileprivate var word: String {
        switch rawValue {
        case 1: "redirect"
        case 2: "kernel"
        case 3: "boot"
        case 4: "static"
        case 9: "ra"
        case 16: "dhcp"
        default: String(rawValue)
        }
    }
}

extension RouteType {
    /// The word of ip-route(8), or the number.
    fileprivate var word: String {
        switch self {
        case .unicast: "unicast"
        case .local: "local"
        case .blackhole: "blackhole"
        case .unreachable: "unreachable"
        case .prohibit: "prohibit"
        case .throw: "throw"
        default: String(rawValue)
        }
    }
}
