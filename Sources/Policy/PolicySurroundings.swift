// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The addresses behind the words `host` and `dns`, which change when the host roams, while the rules stay.
public struct PolicySurroundings: Hashable, Sendable {
    /// The host's addresses, and those that stand for the host or its loopback in the namespace.
    public var hostAddresses: Set<IPAddress>
    /// The relay's address in the namespace, and the host's servers.
    public var resolvers: Set<IPAddress>

    /// Makes the surroundings.
    ///
    /// - Parameters:
    ///   - hostAddresses: the host's addresses, and those that stand for the host or its loopback.
    ///   - resolvers: the relay's address, and the host's servers.
    public init(hostAddresses: Set<IPAddress> = [], resolvers: Set<IPAddress> = []) {
        self.hostAddresses = hostAddresses
        self.resolvers = resolvers
    }

    /// Whether rules with names do not apply to an address: `private`, `host` and `metadata`.
    public func isProtected(_ address: IPAddress) -> Bool {
        address.isUnspecified || hostAddresses.contains(address)
            || Self.protectedPrefixes.contains { $0.contains(address) }
    }

    private static let protectedPrefixes = PolicyRule.Word.allCases.flatMap { $0 == .anywhere ? [] : $0.prefixes }
}

extension PolicyRule.Word {
    /// The networks that the word always means; `host` and `dns` mean the surroundings' addresses, too.
    ///
    /// IPv4 networks are included in their NAT64 form as well (RFC 6052 §2.1), because a translator on the path would
    /// lead there.
    var prefixes: [Prefix] {
        switch self {
        case .privateNetworks: Self.privatePrefixes
        case .metadata: Self.metadataPrefixes
        case .host: Self.loopbackPrefixes
        case .resolvers, .anywhere: []
        }
    }

    private static let privatePrefixes = withTranslated([
        "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10",
    ])
    private static let metadataPrefixes = withTranslated(["169.254.169.254/32", "fd00:ec2::254/128"])
    private static let loopbackPrefixes = withTranslated(["127.0.0.0/8", "::1/128"])

    private static func withTranslated(_ texts: [String]) -> [Prefix] {
        let prefixes = texts.compactMap { Prefix($0) }
        precondition(prefixes.count == texts.count, "a prefix of ours is malformed")
        return prefixes
            + prefixes.compactMap { prefix in
                guard case .v4(let v4) = prefix.address else { return nil }
                let translated = IPv6Address(high: 0x0064_FF9B_0000_0000, low: UInt64(v4.rawValue))
                return Prefix(.v6(translated), length: 96 + prefix.length)
            }
    }
}
