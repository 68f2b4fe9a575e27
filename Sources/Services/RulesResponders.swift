// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The responders by translation rules, for the data path until it has its `GuestServices`.

public import NetworkModel
public import NetworkTypes
public import Wire

extension ServiceSettings {
    /// The settings that translation rules imply.
    init(following rules: TranslationRules) {
        self.init()
        services = [.neighborDiscovery, .routerAdvertisements]
        gatewayMAC = rules.gatewayMAC
        mtu = rules.mtu
        let families = rules.families
        v4.isEnabled = families.v4.isEnabled
        v4.guestAddresses = Set([families.v4.guestAddress?.v4].compactMap(\.self))
        let own = [
            families.v4.ownAddress, families.v4.gateway, families.v4.hostLoopback, families.v4.mappedGuestAddress,
            families.v4.dnsForward,
        ]
        v4.ownAddresses = Set(own.compactMap { $0?.v4 })
        v6.isEnabled = families.v6.isEnabled
        v6.ownAddress = families.v6.ownAddress?.v6
        v6.guestAddresses = Set([families.v6.guestAddress?.v6].compactMap(\.self))
    }
}

extension ARPResponder {
    /// As ``reply(to:summary:settings:neighbours:into:)``, by translation rules.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, rules: TranslationRules, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        Self.reply(to: frame, summary: summary, settings: ServiceSettings(following: rules), into: &reply)
    }
}

extension NDPResponder {
    /// As ``reply(to:summary:settings:neighbours:advertisement:into:)``, by translation rules.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, rules: TranslationRules,
        routerAdvertisement: RouterAdvertisement?, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        let settings = ServiceSettings(following: rules)
        let own = settings.v6.ownAddress.flatMap { $0.isLinkLocal ? $0 : nil }
        let advertisement = routerAdvertisement.flatMap { content in
            own.map { RouterAdvertiser.Advertisement(source: $0, content: content) }
        }
        return Self.reply(to: frame, summary: summary, settings: settings, advertisement: advertisement, into: &reply)
    }
}

extension RouterAdvertisement {
    /// Makes the advertisement for a namespace that is told, not programmed, with lifetimes that never end.
    public init(rules: TranslationRules, guestAddress: Prefix?, isManaged: Bool) {
        var prefixes: [PrefixInformation] = []
        if let guestAddress, !guestAddress.address.isLinkLocal, let network = guestAddress.network.address.v6 {
            prefixes.append(PrefixInformation(prefix: network, prefixLength: UInt8(guestAddress.length)))
        }
        self.init(
            routerLifetime: .max, isManaged: isManaged, sourceLinkAddress: rules.gatewayMAC, mtu: rules.mtu,
            prefixes: prefixes)
    }
}
