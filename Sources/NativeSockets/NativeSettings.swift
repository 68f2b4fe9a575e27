// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

package import JSON
package import NetworkModel
package import NetworkTypes

/// What the engine publishes to the supervisor of native sockets.
///
/// It says which destinations leave the host as they are, and how the host's sockets are made. It is replaced as a whole at
/// each change of the host.
package struct NativeSettings: Hashable, Sendable {
    /// What is done with a connection to a destination.
    package enum Verdict: Hashable, Sendable {
        /// A socket of the host takes the place of the namespace's.
        case native
        /// The namespace's own socket connects, as without native sockets.
        case namespace
    }

    /// The settings of one family.
    package struct Family: Hashable, Sendable {
        /// Whether any destination is eligible: the family is on, and not in local mode.
        package var isEligible = false
        /// Destinations that mean something else than themselves, and addresses of the namespace and of the host.
        package var excluded: Set<IPAddress> = []
        /// The addresses of the namespace, the preferred one first.
        package var guestAddresses: [IPAddress] = []
        /// The source address of host sockets (`-o`).
        package var source: IPAddress?
        /// The device that host sockets are bound to.
        package var device: String?

        /// Makes settings with which nothing is eligible.
        package init() {}
    }

    /// The families' settings.
    package var families = PerFamily<Family>(v4: .init(), v6: .init())
    /// The name of the interface in the namespace by which packets come to the engine.
    package var interface = ""
    /// Every address of the host; nil if that is not known.
    ///
    /// A switched socket whose own address is not in here is ended.
    package var hostAddresses: Set<IPAddress>?

    /// The most addresses in a list; with more, the family is not eligible, so that a message stays small.
    private static let mostAddresses = 2048

    /// Makes settings with which nothing is eligible.
    package init() {}

    /// Makes the settings of translation rules.
    ///
    /// - Parameters:
    ///   - rules: the rules in force.
    ///   - interface: the name of the interface in the namespace.
    ///   - hostAddresses: every address of the host, if that is known.
    package init(_ rules: TranslationRules, interface: String, hostAddresses: Set<IPAddress>?) {
        self.interface = interface
        self.hostAddresses = hostAddresses.flatMap { $0.count > Self.mostAddresses ? nil : $0 }
        for family in AddressFamily.allCases {
            let rules = rules.families[family]
            var settings = Family()
            settings.excluded = rules.guestAddresses.union(rules.foreignAddresses)
            settings.excluded.formUnion(
                [
                    rules.guestAddress, rules.ownAddress, rules.gateway, rules.hostLoopback, rules.mappedGuestAddress,
                    rules.hostAddress, rules.dnsForward,
                ].compactMap(\.self))
            settings.excluded.formUnion((hostAddresses ?? []).filter { $0.family == family })
            settings.isEligible =
                rules.isEnabled && rules.leavesHost && settings.excluded.count <= Self.mostAddresses
            if !settings.isEligible { settings.excluded = [] }
            let others = rules.guestAddresses.filter { $0 != rules.guestAddress }.sorted()
            settings.guestAddresses = [rules.guestAddress].compactMap(\.self) + others.prefix(Self.mostAddresses)
            settings.source = rules.outboundAddress
            settings.device = rules.outboundInterface
            families[family] = settings
        }
    }

    /// What is done with a connection to a destination; the one place where that is decided.
    ///
    /// A policy of what may leave belongs here: whatever is not `native` goes by the tap, whose engine judges it.
    ///
    /// - Parameters:
    ///   - address: the destination; an IPv4 address in mapped form means IPv4.
    ///   - port: its port.
    /// - Returns: whether the host's socket or the namespace's is used.
    package func verdict(to address: IPv6Address, port: UInt16) -> Verdict {
        let destination = IPAddress(unmapping: address)
        let family = families[destination.family]
        guard family.isEligible, port != 0 else { return .namespace }
        if destination.isUnspecified || destination.isLoopback || destination.isMulticast || destination.isLinkLocal
            || destination.isBroadcast
        {
            return .namespace
        }
        // "This network" (RFC 1122 §3.2.1.3), and the compatible IPv6 addresses, ::1 among them.
        if let v4 = destination.v4, v4.rawValue >> 24 == 0 { return .namespace }
        if let v6 = destination.v6, v6.isIPv4Compatible { return .namespace }
        return family.excluded.contains(destination) ? .namespace : .native
    }

    /// The address that the namespace sees as its own on a switched socket.
    ///
    /// - Parameter local: the address of the host's socket.
    /// - Returns: the namespace's address.
    package func shownAddress(of local: IPAddress) -> IPAddress {
        let guests = families[local.family].guestAddresses
        return guests.contains(local) ? local : guests.first ?? local
    }
}

// MARK: - As a message

extension NativeSettings {
    /// The settings as JSON.
    package var json: JSONValue {
        var members = JSONObject()
        members["interface"] = .string(interface)
        members["host"] = hostAddresses.map { Self.list($0.sorted()) } ?? .null
        for family in AddressFamily.allCases {
            let settings = families[family]
            members["\(family)"] = [
                "eligible": .bool(settings.isEligible), "excluded": Self.list(settings.excluded.sorted()),
                "guest": Self.list(settings.guestAddresses), "source": JSONValue(settings.source.map { "\($0)" }),
                "device": JSONValue(settings.device),
            ]
        }
        return .object(members)
    }

    /// Reads settings; nil if they are not complete, after which nothing may be eligible.
    package init?(_ json: JSONValue) {
        guard let interface = json["interface"]?.string else { return nil }
        self.interface = interface
        if let value = json["host"], value != .null {
            guard let addresses = Self.addresses(value) else { return nil }
            hostAddresses = Set(addresses)
        }
        for family in AddressFamily.allCases {
            guard let value = json["\(family)"], let isEligible = value["eligible"]?.bool,
                let excluded = value["excluded"].flatMap(Self.addresses),
                let guests = value["guest"].flatMap(Self.addresses)
            else { return nil }
            var settings = Family()
            settings.isEligible = isEligible
            settings.excluded = Set(excluded)
            settings.guestAddresses = guests
            if let text = value["source"]?.string {
                guard let address = IPAddress(text) else { return nil }
                settings.source = address
            }
            settings.device = value["device"]?.string
            families[family] = settings
        }
    }

    private static func list(_ addresses: [IPAddress]) -> JSONValue {
        .array(addresses.map { .string("\($0)") })
    }

    private static func addresses(_ value: JSONValue) -> [IPAddress]? {
        guard case .array(let values) = value else { return nil }
        var addresses: [IPAddress] = []
        for value in values {
            guard let text = value.string, let address = IPAddress(text) else { return nil }
            addresses.append(address)
        }
        return addresses
    }
}
