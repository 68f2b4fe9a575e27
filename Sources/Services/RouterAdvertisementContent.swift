// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes
public import Wire

extension RouterAdvertisement {
    /// How long the addresses of a withdrawn prefix stay valid, in seconds: the least that hosts accept
    /// (RFC 4862 §5.5.3 e).
    private static let withdrawnValidLifetime: UInt32 = 7200

    /// Makes the advertisement for a namespace that is told, not programmed.
    ///
    /// - Parameters:
    ///   - rules: the translation rules, for the MTU and the hardware address.
    ///   - guestAddress: the namespace's address; a link-local one gives no prefix.
    ///   - lifetime: how long the prefix and the DNS options hold, in seconds.
    ///   - isManaged: whether DHCPv6 is served.
    ///   - dnsServers: the DNS servers to tell.
    ///   - searchDomains: the domains to search; those that are not names are left out.
    ///   - withdrawn: prefixes told before that are to be used no longer.
    public init(
        rules: TranslationRules, guestAddress: Prefix?, lifetime: UInt32 = RouterAdvertisement.infinite,
        isManaged: Bool, dnsServers: [IPv6Address] = [], searchDomains: [String] = [], withdrawn: [Prefix] = []
    ) {
        var prefixes: [PrefixInformation] = []
        if let guestAddress, !guestAddress.address.isLinkLocal, let network = guestAddress.network.address.v6 {
            prefixes.append(
                PrefixInformation(
                    prefix: network, prefixLength: UInt8(guestAddress.length),
                    isAutonomous: guestAddress.length == 64, validLifetime: lifetime, preferredLifetime: lifetime))
        }
        for prefix in withdrawn where prefix.network != guestAddress?.network {
            guard let network = prefix.network.address.v6 else { continue }
            prefixes.append(
                PrefixInformation(
                    prefix: network, prefixLength: UInt8(prefix.length), isAutonomous: prefix.length == 64,
                    validLifetime: Self.withdrawnValidLifetime, preferredLifetime: 0))
        }
        let names = searchDomains.compactMap { DNSName($0) }
        self.init(
            routerLifetime: .max, isManaged: isManaged, sourceLinkAddress: rules.gatewayMAC, mtu: rules.mtu,
            prefixes: prefixes,
            recursiveDNS: dnsServers.isEmpty ? nil : RecursiveDNS(servers: dnsServers, lifetime: lifetime),
            searchList: names.isEmpty ? nil : SearchList(domains: names, lifetime: lifetime))
    }
}
