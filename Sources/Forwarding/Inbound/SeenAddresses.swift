// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The last few source addresses that were classified are remembered, so that most packets cost a few comparisons. Every
// other source address is classified as one of these:
//
//   given       by the plan, or in a prefix announced to the namespace       taken
//   former      given by an earlier plan; connections may still have it      taken
//   foreign     the host's, the gateway's or tapas's own                     dropped
//   excluded    behind the namespace, and a rule of a forwarded port leads there    taken
//   any other   taken by the namespace itself                                observed; with --strict-addresses dropped
//
// Flows that are opened on the host go to the first address of the plan, or to the address observed last if the
// namespace has sent from it since. The number of observed addresses is limited, and the one that has been silent for
// longest is removed first; an address is removed ten minutes after its last packet. The remembered addresses are
// classified again from time to time, so the time of their last packets is known without a record of each packet.

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes

/// The addresses of the namespace: those that it may send from, and those that flows from the host go to.
struct SeenAddresses: Equatable {
    /// What is done with a packet because of its source.
    enum Admission: Equatable {
        case taken
        /// The source belongs to the host, to the gateway or to tapas.
        case spoofed
        /// No address source gave it, and other sources are not accepted.
        case strange
    }

    /// An address that no address source gave.
    private struct Observed: Equatable {
        var address: IPv6Address
        var lastHeard: MonotonicTime
    }

    /// The most observed addresses of a family.
    static let mostObserved = 16
    /// How long an observed address is remembered after its last packet, in milliseconds.
    static let memory: Int64 = 600_000
    /// How often the remembered addresses are classified again, in milliseconds.
    static let refresh: Int64 = 10_000
    /// The most former addresses that are accepted.
    private static let mostFormer = 64

    /// The IPv4 address, in mapped form.
    private(set) var v4: IPv6Address?
    /// The IPv6 address that is not link-local.
    private(set) var v6: IPv6Address?
    /// The IPv6 link-local address.
    private(set) var v6LinkLocal: IPv6Address?
    /// Sources that were accepted and would change nothing; `::` for none.
    private var recent: [4 of IPv6Address] = .init(repeating: .unspecified)
    private var nextRecent = 0
    /// The first address of each family as planned.
    private var planned = PerFamily<IPAddress?>(v4: nil, v6: nil)
    /// The addresses that the plan gives.
    private var given: Set<IPv6Address> = []
    /// The addresses that earlier plans gave, with the latest at the end.
    private var former: [IPv6Address] = []
    private var foreign: Set<IPv6Address> = []
    /// Addresses that are no longer planned and stay only for existing connections; they are never learned.
    private var unplanned: Set<IPv6Address> = []
    /// Addresses behind the namespace that rules of forwarded ports lead to; they are never learned.
    private var excluded: Set<IPv6Address> = []
    /// As many are remembered as there may be rules.
    private static let exclusions = 512
    /// The observed addresses, with the one that sent last at the end.
    private var observed: [Observed] = []

    static func == (a: Self, b: Self) -> Bool {
        a.v4 == b.v4 && a.v6 == b.v6 && a.v6LinkLocal == b.v6LinkLocal && a.given == b.given && a.observed == b.observed
    }

    // MARK: Plans

    /// Adopts the addresses of a plan; inbound flows of a family go to its first address if that has changed.
    mutating func adopt(_ rules: TranslationRules) {
        var new: Set<IPv6Address> = []
        foreign = []
        for family in AddressFamily.allCases {
            let part = rules.families[family]
            new.formUnion(part.guestAddresses.map(\.asIPv6))
            if let address = part.guestAddress { new.insert(address.asIPv6) }
            foreign.formUnion(part.foreignAddresses.map(\.asIPv6))
        }
        let gone = given.subtracting(new)
        given = new
        former = former.filter { !new.contains($0) && !gone.contains($0) } + gone
        former.removeFirst(max(0, former.count - Self.mostFormer))
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
        if let own = rules.families.v6.guestAddresses.first(where: \.isLinkLocal) { v6LinkLocal = own.asIPv6 }
        let known = given.union(foreign)
        forgetObserved(rules) { known.contains($0.address) }
    }

    /// Excludes addresses from new flows.
    mutating func exclude(_ addresses: Set<IPAddress>, rules: TranslationRules) {
        unplanned = Set(addresses.map(\.asIPv6))
        if let address = v4, unplanned.contains(address) { restore(.v4, rules) }
        if let address = v6, unplanned.contains(address) { restore(.v6, rules) }
        forgetRecent()
    }

    /// Excludes an address that flows of forwarded ports go to because a rule names it, and that is not known as the
    /// namespace's own: it is not learned from the answers.
    mutating func exclude(_ address: IPv6Address) {
        let isOwn = address == v4 || address == v6 || address == v6LinkLocal || given.contains(address)
        guard !isOwn, !excluded.contains(address) else { return }
        if excluded.count >= Self.exclusions { excluded = [] }
        excluded.insert(address)
        forgetRecent()
    }

    private mutating func restore(_ family: AddressFamily, _ rules: TranslationRules) {
        let first = rules.families[family].guestAddress
        if family == .v4 { v4 = first?.asIPv6 } else { v6 = first.flatMap { $0.isLinkLocal ? nil : $0.asIPv6 } }
    }

    // MARK: Packets

    /// Whether a source address was classified a moment ago, and nothing new can be learned from it.
    @inline(__always)
    func isKnown(_ source: IPv6Address) -> Bool {
        source == recent[0] || source == recent[1] || source == recent[2] || source == recent[3]
    }

    private mutating func forgetRecent() {
        recent = .init(repeating: .unspecified)
    }

    private mutating func remember(_ source: IPv6Address) {
        recent[nextRecent] = source
        nextRecent = (nextRecent + 1) & 3
    }

    /// Classifies the source address of a packet from the namespace, and learns it where the rules allow it.
    @discardableResult
    mutating func observe(_ source: IPv6Address, rules: TranslationRules, now: MonotonicTime = .now) -> Admission {
        let address = IPAddress(unmapping: source)
        guard !address.isUnspecified, !address.isLoopback, !address.isMulticast, !address.isBroadcast else {
            return .spoofed
        }
        if excluded.contains(source), !foreign.contains(source) {
            remember(source)
            return .taken
        }
        if source.isLinkLocal {
            let mayLead = given.contains(source) || !given.contains(where: \.isLinkLocal)
            if mayLead, v6LinkLocal != source {
                v6LinkLocal = source
                forgetRecent()
            }
            remember(source)
            return .taken
        }
        let family = address.family
        if given.contains(source) {
            if address == planned[family] { lead(to: source, family) } else { remember(source) }
            return .taken
        }
        let wasGiven = unplanned.contains(source) || former.contains(source)
        guard wasGiven || !foreign.contains(source) else { return .spoofed }
        let part = rules.families[family]
        let isAnnounced = wasGiven || part.guestPrefixes.contains { $0.contains(address) }
        guard isAnnounced || rules.acceptsOtherAddresses else { return .strange }
        guard !unplanned.contains(source) else {
            remember(source)
            return .taken
        }
        note(source, now)
        // Inbound flows need a target.
        if part.learnsGuestAddress { lead(to: source, family) } else { remember(source) }
        return .taken
    }

    /// Makes flows from the host go to an address; all other addresses are classified again when they send again.
    private mutating func lead(to source: IPv6Address, _ family: AddressFamily) {
        let current = family == .v4 ? v4 : v6
        if current != source {
            if family == .v4 { v4 = source } else { v6 = source }
            forgetRecent()
        }
        remember(source)
    }

    // MARK: Observed addresses

    /// The addresses that no address source gave, with the one that sent last at the end.
    var observedAddresses: [IPAddress] { observed.map { IPAddress(unmapping: $0.address) } }

    private mutating func note(_ source: IPv6Address, _ now: MonotonicTime) {
        if let known = observed.firstIndex(where: { $0.address == source }) {
            observed.remove(at: known)
        } else if observed.lazy.filter({ $0.address.isIPv4Mapped == source.isIPv4Mapped }).count >= Self.mostObserved,
            let silent = observed.firstIndex(where: { $0.address.isIPv4Mapped == source.isIPv4Mapped })
        {
            observed.remove(at: silent)
        }
        observed.append(Observed(address: source, lastHeard: now))
    }

    /// Removes addresses that the namespace no longer has.
    mutating func forget(_ addresses: Set<IPAddress>, rules: TranslationRules) {
        let gone = Set(addresses.map(\.asIPv6))
        forgetObserved(rules) { gone.contains($0.address) }
    }

    private mutating func forgetObserved(_ rules: TranslationRules, where isGone: (Observed) -> Bool) {
        for entry in observed where isGone(entry) {
            if v4 == entry.address, planned.v4?.asIPv6 != v4 { restore(.v4, rules) }
            if v6 == entry.address, planned.v6?.asIPv6 != v6 { restore(.v6, rules) }
        }
        observed.removeAll(where: isGone)
        forgetRecent()
    }

    /// When ``expire(_:now:)`` must be called next; nil while nothing is observed.
    var deadline: MonotonicTime? { observed.isEmpty ? nil : nextRefresh }
    private var nextRefresh = MonotonicTime(nanoseconds: 0)

    /// Has the remembered addresses classified again, and removes those that have been silent for too long.
    mutating func expire(_ rules: TranslationRules, now: MonotonicTime) {
        guard !observed.isEmpty, nextRefresh <= now else { return }
        nextRefresh = now.advanced(milliseconds: Self.refresh)
        forgetObserved(rules) { now.milliseconds(since: $0.lastHeard) > Self.memory + Self.refresh }
    }
}
