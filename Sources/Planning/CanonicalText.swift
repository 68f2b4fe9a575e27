// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
import NetworkTypes

extension AppliedState {
    /// The state as canonical text: the link, then addresses, then routes as ip(8) prints them, in sorted order.
    ///
    /// Two states with equal text behave alike: the text does not show the order in which objects were added, but its
    /// effect (`secondary`).
    ///
    /// - Parameter device: the interface's name.
    /// - Returns: The lines, without a line end after the last.
    public func canonicalText(device: String) -> String {
        var lines = ["link \(isUp ? "up" : "down") mtu \(mtu)" + (mac.map { " address \($0)" } ?? "")]
        lines += addresses.map(\.value).sorted { $0.sortKey < $1.sortKey }.map(\.text)
        lines += routes.map(\.value.canonical).sorted { $0.isBefore($1) }.map { $0.text(device: device) }
        return lines.joined(separator: "\n")
    }
}

extension NamespacePlan {
    /// The plan as canonical text.
    ///
    /// The link, each family's mode, addresses and routes in the order to add them, its translation rules, and the
    /// resolvers. Reasons and warnings are left out.
    public var canonicalText: String {
        var lines = ["link \(interfaceName) mtu \(mtu.map(String.init) ?? "unchanged")"]
        if let namespaceMAC { lines[0] += " address \(namespaceMAC)" }
        for family in AddressFamily.allCases {
            let plan = families[family]
            lines.append("\(family) \(plan.mode)")
            lines += plan.addresses.map { "  " + $0.text }
            lines += plan.routes.map { "  " + $0.text(device: interfaceName) }
            lines += rules.families[family].words.map { "  \($0)" }
        }
        let servers = rules.dnsServers.map { server in "\(server.address)" + (server.zone.map { "%\($0)" } ?? "") }
        if !servers.isEmpty { lines.append("dns \(servers.joined(separator: " "))") }
        return lines.joined(separator: "\n")
    }
}

extension PlannedAddress {
    /// IPv4 before IPv6, then by address, length and peer.
    fileprivate var sortKey: String {
        "\(family == .v4 ? 4 : 6) \(address.asIPv6.paddedText)/\(prefix.length + 1000) \(peer?.description ?? "")"
    }
}

extension Route {
    fileprivate func isBefore(_ other: Route) -> Bool {
        if destination != other.destination { return destination < other.destination }
        if metric != other.metric { return metric < other.metric }
        return text < other.text
    }
}

extension IPv6Address {
    /// The number with leading zeros, which sorts as text.
    fileprivate var paddedText: String {
        let text = [high, low].map { half in
            let digits = String(half, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }
        return text.joined()
    }
}

extension TranslationRules.Family {
    /// One line for each rule in force.
    fileprivate var words: [String] {
        guard isEnabled else { return [] }
        var lines: [String] = []
        func add(_ name: String, _ value: (some CustomStringConvertible)?) {
            if let value { lines.append("\(name) \(value)") }
        }
        add("guest", guestAddress)
        add("own", ownAddress)
        add("gateway", gateway)
        add("host-loopback", hostLoopback)
        add("guest-map", mappedGuestAddress)
        add("host", hostAddress)
        add("dns-forward", dnsForward)
        add("outbound", outboundAddress)
        add("outbound-if", outboundInterface)
        add("scope", linkLocalScope)
        return lines
    }
}
