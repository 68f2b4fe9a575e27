// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

/// The addresses of the namespace that inbound flows go to: its own as planned, then those it was seen to use.
struct SeenAddresses: Equatable {
    /// The IPv4 address, in mapped form.
    private(set) var v4: IPv6Address?
    /// The IPv6 address that is not link-local.
    private(set) var v6: IPv6Address?
    /// The IPv6 link-local address.
    private(set) var v6LinkLocal: IPv6Address?
    /// The source of the last packet of each kind, so that the usual packet costs one comparison.
    private var planned = PerFamily<IPAddress?>(v4: nil, v6: nil)
    /// Addresses that are not planned any more and only stay for connections that have them: never learned.
    private var leaving: Set<IPv6Address> = []
    /// Addresses behind the namespace that rules of forwarded ports lead to: never learned.
    private var excluded: Set<IPv6Address> = []
    /// As many are remembered as there may be rules.
    private static let exclusions = 512
    /// The source that was last looked at and not learned, so that its packets cost one comparison, too.
    private var passedOver: IPv6Address?

    /// Begins anew with the planned address of each family whose plan has changed.
    mutating func adopt(_ rules: TranslationRules) {
        passedOver = nil
        if rules.families.v4.guestAddress != planned.v4 {
            planned.v4 = rules.families.v4.guestAddress
            v4 = planned.v4?.asIPv6
        }
        if rules.families.v6.guestAddress != planned.v6 {
            planned.v6 = rules.families.v6.guestAddress
            if let address = planned.v6?.v6, address.isLinkLocal {
                v6LinkLocal = address
                v6 = nil
            } else {
                v6 = planned.v6?.v6
            }
        }
    }

    /// Takes the addresses that new flows must not go to any more.
    mutating func leave(_ addresses: Set<IPAddress>, rules: TranslationRules) {
        passedOver = nil
        leaving = Set(addresses.map(\.asIPv6))
        if let address = v4, leaving.contains(address) { v4 = rules.families.v4.guestAddress?.asIPv6 }
        if let address = v6, leaving.contains(address) {
            v6 = rules.families.v6.guestAddress.flatMap { $0.isLinkLocal ? nil : $0.asIPv6 }
        }
    }

    /// Whether a source address is what is known already.
    @inline(__always)
    func isKnown(_ source: IPv6Address) -> Bool {
        source == v4 || source == v6 || source == v6LinkLocal
    }

    /// Whether a source address need not be looked at: what is known already, or was not learned a moment ago.
    @inline(__always)
    func isSettled(_ source: IPv6Address) -> Bool { isKnown(source) || source == passedOver }

    /// Takes note of an address that flows of forwarded ports go to because a rule names it, and that is not the
    /// namespace's own as far as anybody knows: it is not learned from the answers.
    mutating func exclude(_ address: IPv6Address) {
        guard !isKnown(address), !excluded.contains(address) else { return }
        if excluded.count >= Self.exclusions { excluded = [] }
        excluded.insert(address)
    }

    /// Learns the source address of a packet from the namespace, where the rules let it.
    mutating func observe(_ source: IPv6Address, rules: TranslationRules) {
        let address = IPAddress(unmapping: source)
        guard !address.isUnspecified, !address.isLoopback, !address.isMulticast, !address.isBroadcast else { return }
        guard !excluded.contains(source) else {
            passedOver = source
            return
        }
        if source.isLinkLocal {
            v6LinkLocal = source
            return
        }
        guard rules.families[address.family].learnsGuestAddress, !leaving.contains(source) else {
            passedOver = source
            return
        }
        if address.family == .v4 { v4 = source } else { v6 = source }
    }
}

/// Where a flow that was opened on the host goes in the namespace, and from whom it seems to come (tapas(1),
/// "Addresses").
struct InboundTranslator {
    var rules: TranslationRules
    var seen: SeenAddresses

    /// The source address that the namespace is to see; nil if there is none that it could answer.
    func source(of client: IPv6Address) -> IPv6Address? {
        let address = IPAddress(unmapping: client)
        let family = rules.families[address.family]
        guard family.isEnabled else { return nil }
        let isPlainLoopback = address == .v4(.loopback) || address == .v6(.loopback)
        if isPlainLoopback, let mapped = family.hostLoopback { return mapped.asIPv6 }
        let isHost = address == family.guestAddress || address == family.hostAddress
        if isHost, let mapped = family.mappedGuestAddress { return mapped.asIPv6 }
        let isOwn =
            address == family.guestAddress || client == seen.v4 || client == seen.v6 || client == seen.v6LinkLocal
        if address.isLoopback || address.isUnspecified || isOwn { return family.ownAddress?.asIPv6 }
        return client
    }

    /// The namespace's address for a flow that comes from a translated source.
    func target(for source: IPv6Address, _ family: AddressFamily) -> IPv6Address? {
        if family.isIPv4 { return seen.v4 }
        return source.isLinkLocal ? seen.v6LinkLocal ?? seen.v6 : seen.v6 ?? seen.v6LinkLocal
    }
}
