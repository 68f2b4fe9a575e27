// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

/// The destination in the namespace of a flow that is opened on the host, and the source that it appears to have
/// (tapas(1), "Addresses").
struct InboundTranslator {
    var rules: TranslationRules
    var seen: SeenAddresses

    /// The source address that the namespace should see; nil if there is none that it could answer.
    func source(of client: IPv6Address) -> IPv6Address? {
        let address = IPAddress(unmapping: client)
        let family = rules.families[address.family]
        guard family.isEnabled else { return nil }
        let isPlainLoopback = address == .v4(.loopback) || address == .v6(.loopback)
        if isPlainLoopback, let mapped = family.hostLoopback { return mapped.asIPv6 }
        let isGuest = address == family.guestAddress || family.guestAddresses.contains(address)
        if isGuest || address == family.hostAddress, let mapped = family.mappedGuestAddress { return mapped.asIPv6 }
        let isOwn = isGuest || client == seen.v4 || client == seen.v6 || client == seen.v6LinkLocal
        if address.isLoopback || address.isUnspecified || isOwn { return family.ownAddress?.asIPv6 }
        return client
    }

    /// The namespace's address for a flow that comes from a translated source.
    func target(for source: IPv6Address, _ family: AddressFamily) -> IPv6Address? {
        if family.isIPv4 { return seen.v4 }
        return source.isLinkLocal ? seen.v6LinkLocal ?? seen.v6 : seen.v6 ?? seen.v6LinkLocal
    }
}
