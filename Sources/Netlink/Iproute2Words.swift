// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

// Objects in the words of ip(8), for logs and errors. Links are named by index, which is what requests carry.

extension Route {
    /// The route as `ip route add` takes it, with links by index: "default via 192.0.2.1 dev 3 metric 100".
    public var iproute2Words: String {
        var words: [String] = []
        switch type {
        case .unicast: break
        case .local: words.append("local")
        case .blackhole: words.append("blackhole")
        case .unreachable: words.append("unreachable")
        case .prohibit: words.append("prohibit")
        case .throw: words.append("throw")
        default: words.append("type \(type.rawValue)")
        }
        words.append(isDefault || destination.isDefault ? "default" : destination.network.description)
        if destination.isDefault, family == .v6 { words.insert("-6", at: 0) }
        if let source { words.append("from \(source)") }
        if typeOfService != 0 { words.append("tos \(typeOfService)") }
        if let nextHopID {
            words.append("nhid \(nextHopID)")
        } else if nextHops.count == 1 {
            words.append(contentsOf: nextHops[0].iproute2Words(family: family, isOnlyOne: true))
        }
        if table != .main { words.append("table \(table.rawValue)") }
        if `protocol` != .boot { words.append("proto \(`protocol`.rawValue)") }
        if scope == .link {
            words.append("scope link")
        } else if scope == .host {
            words.append("scope host")
        } else if scope != .universe {
            words.append("scope \(scope.rawValue)")
        }
        if let preferredSource { words.append("src \(preferredSource)") }
        if metric != 0 { words.append("metric \(metric)") }
        if let mtu { words.append("mtu \(mtu)") }
        if let advertisedMSS { words.append("advmss \(advertisedMSS)") }
        if let preference, preference != 0 { words.append("pref \(preference == 1 ? "high" : "low")") }
        if nextHopID == nil, nextHops.count > 1 {
            for hop in nextHops {
                words.append("nexthop")
                words.append(contentsOf: hop.iproute2Words(family: family, isOnlyOne: false))
            }
        }
        return words.joined(separator: " ")
    }
}

extension NextHop {
    fileprivate func iproute2Words(family: AddressFamily, isOnlyOne: Bool) -> [String] {
        var words: [String] = []
        if let gateway {
            words.append(gateway.family == family ? "via \(gateway)" : "via \(gateway.family.word) \(gateway)")
        }
        if let interface { words.append("dev \(interface)") }
        if !isOnlyOne { words.append("weight \(weight)") }
        if flags.contains(.onLink) { words.append("onlink") }
        return words
    }
}

extension AddressFamily {
    /// ip(8)'s word: "inet" or "inet6".
    fileprivate var word: String { self == .v4 ? "inet" : "inet6" }
}

extension InterfaceAddress {
    /// The address as `ip address add` takes it, with the link by index: "192.0.2.1/24 dev 2 noprefixroute".
    public func iproute2Words(lifetime: AddressLifetime? = nil) -> String {
        var words = peer.map { ["\(address)", "peer", "\($0)/\(prefix.length)"] } ?? ["\(prefix)"]
        if let broadcast { words += ["brd", "\(broadcast)"] }
        words += ["dev", "\(interface)"]
        if scope == .link { words += ["scope", "link"] }
        if scope == .host { words += ["scope", "host"] }
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

extension LinkChange {
    /// The change as `ip link set` takes it, with the link by index.
    func iproute2Words(_ index: InterfaceIndex) -> String {
        var words = ["link", "set", "dev", "\(index)"]
        if let isUp { words.append(isUp ? "up" : "down") }
        if let isWithoutARP { words += ["arp", isWithoutARP ? "off" : "on"] }
        if let mtu { words += ["mtu", "\(mtu)"] }
        if let mac { words += ["address", "\(mac)"] }
        if let name { words += ["name", name] }
        if let transmitQueueLength { words += ["txqueuelen", "\(transmitQueueLength)"] }
        if let addressGeneration { words += ["addrgenmode", "\(addressGeneration)"] }
        return words.joined(separator: " ")
    }
}
