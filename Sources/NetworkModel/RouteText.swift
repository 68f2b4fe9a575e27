// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

extension Route {
    /// The route in the words of ip-route(8), without a device: canonical, for messages and comparison.
    public var text: String { text(device: nil) }

    /// The route in the words of ip-route(8).
    ///
    /// Defaults are left out as iproute2 does: protocol boot, scope universe, metric 0, next hop weight 1.
    /// - Parameter device: the interface that next hops without one go out by; nil to name none.
    /// - Returns: what `ip route` would print.
    public func text(device: String?) -> String {
        var words: [String] = []
        if type != .unicast { words.append(type.word) }
        words.append(destination.routeText)
        if let source { words.append("from \(source.routeText)") }
        if typeOfService != 0 { words.append("tos \(typeOfService)") }
        if nextHops.count == 1 { words += nextHops[0].words(family: family, device: device) }
        if table != .main { words.append("table \(table.rawValue)") }
        if `protocol` != .boot { words.append("proto \(`protocol`.word)") }
        if scope != .universe { words.append("scope \(scope.word)") }
        if let preferredSource { words.append("src \(preferredSource)") }
        if metric != 0 { words.append("metric \(metric)") }
        if let mtu { words.append("mtu \(mtu)") }
        if let advertisedMSS { words.append("advmss \(advertisedMSS)") }
        if let preference, preference != 0 { words.append("pref \(preference == 1 ? "high" : "low")") }
        if nextHops.count > 1 {
            for hop in nextHops {
                words.append("nexthop")
                words += hop.words(family: family, device: device)
                words.append("weight \(hop.weight)")
            }
        }
        return words.joined(separator: " ")
    }
}

extension NextHop {
    fileprivate func words(family: AddressFamily, device: String?) -> [String] {
        var words: [String] = []
        if let gateway { words.append(gateway.family == family ? "via \(gateway)" : "via inet6 \(gateway)") }
        if let device { words.append("dev \(device)") }
        if flags.contains(.onLink) { words.append("onlink") }
        return words
    }
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
