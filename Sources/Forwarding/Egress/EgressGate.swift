// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The gate is asked once for each flow that the namespace opens, before anything of the flow exists, with the
// destination as the namespace sees it. So the addresses that stand for the host are covered by the word `host`. Flows
// of forwarded ports were requested by the user and are not asked. Flows that exist are asked again only when the rules
// change, or when their destination has become the host's or has ceased to be.
//
// A data path without rules and without a record of flows has no gate, and pays one comparison for each opening.
//
// A query to the relay is decided by its name before it is sent on. An answer is entered into the table of names before
// it is delivered, so that the namespace never has an address that the table lacks.
//
// The host's addresses change before the data path learns of it. So after connect(2) the gate looks at the address of
// the socket: it equals the destination only if the destination is the host's own. Such a flow is decided again.

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Policy
internal import Wire

/// The rules on what may leave, and the names and flows that they depend on.
final class EgressGate {
    /// What is kept of a flow's decision until the flow ends.
    struct Note {
        /// The verdict's rule; nil for the default.
        var rule: PolicyRule?
        /// The name that led to the flow's destination.
        var name: DomainName?
        /// Whether the table of names keeps the name for this flow.
        var isRetained = false
        /// Whether the flow's opening is in the record.
        var isRecorded = false
    }

    /// How long expired names may stay in the table, in nanoseconds.
    static let expiryInterval: Int64 = 60_000_000_000

    private(set) var settings: EgressSettings
    private(set) var surroundings: PolicySurroundings
    var names = NameTable()
    /// The flows that were decided, by index.
    var notes: [Int: Note] = [:]
    /// Where openings, denials and ends are recorded; nil if nobody reads them.
    var events: FlowEventQueue?
    /// How often each rule has decided, then the default.
    private(set) var hits: [UInt64]
    /// The flows that may open now (`--max-flow-rate`).
    private var openings: TokenBucket?
    /// The decision on the flow that opens now.
    private var pending = Note()
    private var nextExpiry: Int64 = 0

    /// Makes a gate.
    init(_ settings: EgressSettings, rules: TranslationRules, events: FlowEventQueue?) {
        self.settings = settings
        surroundings = PolicySurroundings(rules)
        self.events = events
        hits = Self.zeros(settings)
        openings = Self.openings(settings)
    }

    private static func openings(_ settings: EgressSettings) -> TokenBucket? {
        settings.maximumFlowRate.map { TokenBucket(rate: $0, burst: $0, now: 0) }
    }

    private static func zeros(_ settings: EgressSettings) -> [UInt64] {
        .init(repeating: 0, count: settings.policy.rules.count + 1)
    }

    /// Replaces the rules; the known names stay.
    func adopt(_ settings: EgressSettings) {
        if settings.maximumFlowRate != self.settings.maximumFlowRate { openings = Self.openings(settings) }
        self.settings = settings
        hits = Self.zeros(settings)
        names.adopt(settings.policy)
    }

    /// Adopts the host's present addresses and resolvers.
    ///
    /// - Returns: the addresses whose meaning has changed.
    func adopt(_ rules: TranslationRules) -> Set<IPAddress> {
        let new = PolicySurroundings(rules)
        defer { surroundings = new }
        return new.hostAddresses.symmetricDifference(surroundings.hostAddresses)
            .union(new.resolvers.symmetricDifference(surroundings.resolvers))
    }

    /// Notes an address of the host that has not been published yet.
    func note(hostAddress: IPAddress) {
        surroundings.hostAddresses.insert(hostAddress)
    }

    // MARK: Flows

    /// Decides on a flow.
    func decide(_ key: FlowKey, now: Int64) -> EgressPolicy.Decision {
        decide(.init(PolicyTransport(key.transport), to: key.remoteAddress, port: key.remotePort), now: now)
    }

    /// Decides on an opening.
    func decide(_ opening: EgressPolicy.Opening, now: Int64) -> EgressPolicy.Decision {
        let known = names.names(of: opening.address, now: UInt64(clamping: now))
        return settings.policy.decide(opening, names: known, in: surroundings)
    }

    /// Decides on a flow that opens, and counts the decision.
    ///
    /// - Returns: whether it may open.
    func admits(_ key: FlowKey, now: Int64) -> Bool {
        expireNames(now: now)
        let decision = decide(key, now: now)
        hits[decision.rule ?? hits.count - 1] &+= 1
        pending = Note(rule: decision.rule.map { settings.policy.rules[$0] }, name: decision.name)
        return decision.verdict == .allow
    }

    /// A flow to the relay opens, on which no rule for flows decides.
    func beginQuery() { pending = Note() }

    /// The limits on the number of flows.
    enum Limit: String {
        /// `--max-flows`.
        case flows = "max-flows"
        /// `--max-flow-rate`.
        case rate = "max-flow-rate"
    }

    /// Counts a further flow, unless it would exceed a limit.
    ///
    /// - Parameters:
    ///   - count: the number of flows.
    ///   - now: the time in nanoseconds.
    /// - Returns: the limit that it would exceed; nil if it may open.
    func exceededLimit(count: Int, now: Int64) -> Limit? {
        if let most = settings.maximumFlows, count >= most { return .flows }
        return openings?.take(1, now: UInt64(clamping: now)) == false ? .rate : nil
    }

    /// The decision of ``admits(_:now:)`` now belongs to a flow.
    func begin(_ index: Int, _ key: FlowKey) {
        if let name = pending.name { pending.isRetained = names.retain(name, at: key.remoteAddress.unmapped) }
        notes[index] = pending
    }

    /// A flow has ended.
    ///
    /// - Returns: what was noted; nil if the flow was never asked.
    func end(_ index: Int, _ key: FlowKey) -> Note? {
        guard let note = notes.removeValue(forKey: index) else { return nil }
        if note.isRetained, let name = note.name { names.release(name, at: key.remoteAddress.unmapped) }
        return note
    }

    /// The note of the decision that was made last.
    var latest: Note { pending }

    private func expireNames(now: Int64) {
        guard now >= nextExpiry else { return }
        nextExpiry = now + Self.expiryInterval
        names.expire(now: UInt64(clamping: now))
    }

    // MARK: Queries

    /// Whether every query may be sent on, whatever it asks.
    var allowsAllQueries: Bool {
        !settings.policy.hasNameRules && settings.policy.decide(query: .root).verdict == .allow
    }

    /// Decides on a query of the namespace.
    ///
    /// - Parameter message: the message.
    /// - Returns: nil if it may be sent on; otherwise the code of the answer, the name if it could be read, and the
    ///   rule that decided.
    func refusal(
        of message: Span<UInt8>
    ) -> (code: DNSHeader.ResponseCode, name: DNSName?, rule: PolicyRule?)? {
        if allowsAllQueries { return nil }
        guard let question = DNSQuestion(onlyOneOf: message) else { return (.formatError, nil, nil) }
        let decision = settings.policy.decide(query: question.name)
        guard decision.verdict == .deny else { return nil }
        hits[decision.rule ?? hits.count - 1] &+= 1
        let code: DNSHeader.ResponseCode = settings.deniesNamesAsAbsent ? .nameError : .refused
        return (code, question.name, decision.rule.map { settings.policy.rules[$0] })
    }

    /// What becomes of an answer.
    enum AnswerFate {
        /// It is delivered.
        case delivered
        /// It has an address that its name may not have: the namespace receives REFUSED instead.
        case withheld(IPAddress, DNSName)
        /// It cannot be read, or answers another question: the next server is asked.
        case unusable
    }

    /// Enters an answer into the table of names.
    ///
    /// - Parameters:
    ///   - message: the answer.
    ///   - query: the query that it answers.
    ///   - now: the time in nanoseconds.
    /// - Returns: what to do with it.
    func learn(_ message: Span<UInt8>, to query: Span<UInt8>, now: Int64) -> AnswerFate {
        guard let answer = try? DNSAnswer(message) else {
            // Servers refuse some queries without repeating the question. Such an answer has no addresses.
            guard let header = try? DNSHeader(message), header.answerCount == 0, header.responseCode != .success else {
                return allowsAllQueries ? .delivered : .unusable
            }
            return .delivered
        }
        guard let question = DNSQuestion(onlyOneOf: query), question.isEqual(to: answer.question) else {
            return .unusable
        }
        switch names.learn(answer, policy: settings.policy, in: surroundings, now: UInt64(clamping: now)) {
        case .learned, .nothing: return .delivered
        case .rebinding(let address): return .withheld(address, question.name)
        }
    }
}

extension DNSQuestion {
    /// The question of a query that has one question; nil for anything else.
    init?(onlyOneOf query: Span<UInt8>) {
        guard let header = try? DNSHeader(query), !header.isResponse, header.operation == 0, header.questionCount == 1
        else { return nil }
        var offset = DNSHeader.length
        guard let question = try? DNSQuestion(query, at: &offset) else { return nil }
        self = question
    }

    /// Whether another question asks the same, without regard to case (RFC 4343).
    func isEqual(to other: DNSQuestion) -> Bool {
        type == other.type && recordClass == other.recordClass
            && name.wireBytes.elementsEqual(other.name.wireBytes) { Self.lowerCase($0) == Self.lowerCase($1) }
    }

    private static func lowerCase(_ byte: UInt8) -> UInt8 {
        (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte) ? byte + 32 : byte
    }
}

extension IPAddress {
    /// The IPv4 address in the place of an IPv6 one that maps it.
    var unmapped: IPAddress { IPAddress(unmapping: asIPv6) }
}

extension PolicyTransport {
    /// The transport of a flow.
    init(_ transport: IPProtocol) {
        switch transport {
        case .tcp: self = .tcp
        case .udp: self = .udp
        default: self = .icmp
        }
    }
}

extension PolicySurroundings {
    /// The addresses behind `host` and `dns`, by the published rules.
    init(_ rules: TranslationRules) {
        self.init()
        for family in AddressFamily.allCases {
            let part = rules.families[family]
            hostAddresses.formUnion(
                [part.hostLoopback, part.mappedGuestAddress, part.hostAddress].compactMap(\.self))
            if let relay = part.dnsForward { resolvers.insert(relay) }
        }
        hostAddresses.formUnion(rules.hostAddresses)
        resolvers.formUnion(rules.dnsServers.map(\.address))
    }
}
