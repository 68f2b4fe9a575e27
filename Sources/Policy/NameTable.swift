// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes
public import Wire

/// The addresses in the relay's answers, with the queried names and their time to live.
///
/// An entry is a name of an address. It is valid for the answer's time to live, and longer while a flow that it allowed
/// is open. Only the queried name is entered; CNAME records are followed but their names are not entered, because no
/// rule has allowed them.
public struct NameTable: Sendable {
    /// A name of an address.
    public struct Entry: Hashable, Sendable {
        /// The queried name.
        public let name: DomainName
        /// The groups of the policy's rules that contain the name.
        var groups: [Int32]
        /// When it expires, in nanoseconds of the caller's clock.
        public internal(set) var expiry: UInt64
        /// The number of open flows that it has allowed.
        public internal(set) var uses: Int
    }

    /// The result for an answer.
    public enum Outcome: Hashable, Sendable {
        /// The answer may go to the namespace; this number of its addresses has an entry now.
        case learned(Int)
        /// One of the addresses is `private`, `host` or `metadata`, and no rule allows it without the name: the answer
        /// must not go to the namespace.
        case rebinding(IPAddress)
        /// The answer may go to the namespace, but has no address for an entry.
        case nothing
    }

    /// The bounds of the time to live of an entry, in seconds.
    public static let timeToLive: ClosedRange<UInt32> = 30...3600
    /// The greatest number of CNAME records in a row.
    public static let longestChain = 16

    /// The greatest number of entries.
    public let capacity: Int
    /// The greatest number of names of one address.
    public let namesPerAddress: Int
    /// The number of entries.
    public private(set) var count = 0
    /// The number of entries that were refused or removed early because there was no room.
    public private(set) var crowdedOut: UInt64 = 0

    private var entries: [IPAddress: [Entry]] = [:]

    /// Makes an empty table.
    ///
    /// - Parameters:
    ///   - capacity: the greatest number of entries, at least 1; an entry takes some 100 bytes, and its name up to 255.
    ///   - namesPerAddress: the greatest number of names of one address, at least 1.
    public init(capacity: Int = 16384, namesPerAddress: Int = 64) {
        precondition(capacity > 0 && namesPerAddress > 0, "a table without room")
        self.capacity = capacity
        self.namesPerAddress = namesPerAddress
    }

    // MARK: Answers

    /// Enters the addresses of an answer that the relay is about to send.
    ///
    /// - Parameters:
    ///   - answer: the answer, to a query that EgressPolicy/decide(query:) allowed.
    ///   - policy: the policy.
    ///   - surroundings: the addresses behind `host` and `dns`.
    ///   - now: the time, in nanoseconds.
    /// - Returns: Whether the answer may be sent.
    public mutating func learn(
        _ answer: DNSAnswer, policy: EgressPolicy, in surroundings: PolicySurroundings, now: UInt64
    ) -> Outcome {
        let found = Self.addresses(of: answer)
        for (address, _) in found where surroundings.isProtected(address) {
            if !policy.mayReachWithoutName(address, in: surroundings) { return .rebinding(address) }
        }
        guard let name = DomainName(answer.question.name), !found.isEmpty else { return .nothing }
        let groups = policy.groups(of: name)
        var learned = 0
        for (address, seconds) in found {
            let bounded = min(max(seconds, Self.timeToLive.lowerBound), Self.timeToLive.upperBound)
            if enter(name, groups, address, until: now &+ UInt64(bounded) * 1_000_000_000, now: now) { learned += 1 }
        }
        return learned > 0 ? .learned(learned) : .nothing
    }

    /// The addresses in an answer to its question, through CNAME records, with the shortest time to live of the chain;
    /// records of other names are ignored.
    static func addresses(of answer: DNSAnswer) -> [(address: IPAddress, seconds: UInt32)] {
        guard answer.header.responseCode == .success, answer.question.recordClass == 1 else { return [] }
        var aliases: [[UInt8]: (target: DNSName, seconds: UInt32)] = [:]
        for record in answer.records {
            guard case .alias(let target) = record.content else { continue }
            let key = lowerCase(record.owner)
            if aliases[key] == nil { aliases[key] = (target, record.timeToLive) }
        }
        var owner = lowerCase(answer.question.name)
        var bound = UInt32.max
        var steps = 0
        while let alias = aliases[owner] {
            steps += 1
            // This also ends a circular chain.
            guard steps <= longestChain else { return [] }
            owner = lowerCase(alias.target)
            bound = min(bound, alias.seconds)
        }
        return answer.records.compactMap { record in
            guard case .address(let address) = record.content, lowerCase(record.owner) == owner else { return nil }
            return (address, min(bound, record.timeToLive))
        }
    }

    /// Names are compared without regard to case (RFC 4343); lengths of labels are below the letters.
    private static func lowerCase(_ name: DNSName) -> [UInt8] {
        name.wireBytes.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 + 32 : $0 }
    }

    private mutating func enter(
        _ name: DomainName, _ groups: [Int32], _ address: IPAddress, until expiry: UInt64, now: UInt64
    ) -> Bool {
        if let index = entries[address]?.firstIndex(where: { $0.name == name }) {
            let before = entries[address]?[index].expiry ?? 0
            entries[address]?[index].groups = groups
            // An answer with a shorter time to live does not shorten an earlier one, which the client may still use.
            entries[address]?[index].expiry = max(before, expiry)
            return true
        }
        if entries[address]?.count ?? 0 >= namesPerAddress { expire(address, now: now) }
        if count >= capacity { makeRoom(now: now) }
        guard count < capacity, entries[address]?.count ?? 0 < namesPerAddress else {
            crowdedOut &+= 1
            return false
        }
        entries[address, default: []].append(Entry(name: name, groups: groups, expiry: expiry, uses: 0))
        count += 1
        return true
    }

    // MARK: Flows

    /// The valid names of an address.
    ///
    /// - Parameters:
    ///   - address: the address.
    ///   - now: the time, in nanoseconds.
    /// - Returns: The entries in the order of their first answers.
    public mutating func names(of address: IPAddress, now: UInt64) -> [Entry] {
        guard let known = entries[address] else { return [] }
        if known.allSatisfy({ Self.isAlive($0, now) }) { return known }
        expire(address, now: now)
        return entries[address] ?? []
    }

    /// Keeps an entry while a flow that it allowed is open; each true must be followed by one release(_:at:).
    ///
    /// - Parameters:
    ///   - name: the decision's name.
    ///   - address: the flow's destination.
    /// - Returns: Whether there is such an entry.
    public mutating func retain(_ name: DomainName, at address: IPAddress) -> Bool {
        guard let index = entries[address]?.firstIndex(where: { $0.name == name }) else { return false }
        entries[address]?[index].uses += 1
        return true
    }

    /// Records the end of a flow that an entry allowed.
    ///
    /// - Parameters:
    ///   - name: the decision's name.
    ///   - address: the flow's destination.
    public mutating func release(_ name: DomainName, at address: IPAddress) {
        guard let index = entries[address]?.firstIndex(where: { $0.name == name }) else { return }
        guard let uses = entries[address]?[index].uses, uses > 0 else { return }
        entries[address]?[index].uses = uses - 1
    }

    /// All entries with their addresses, in no order.
    public var all: [(address: IPAddress, entry: Entry)] {
        entries.flatMap { address, known in known.map { (address, $0) } }
    }

    // MARK: Upkeep

    /// Adopts changed rules: finds the groups of all names anew.
    ///
    /// - Complexity: O(n) for n entries.
    public mutating func adopt(_ policy: EgressPolicy) {
        var known: [DomainName: [Int32]] = [:]
        for address in Array(entries.keys) {
            for index in (entries[address] ?? []).indices {
                guard let name = entries[address]?[index].name else { continue }
                let groups = known[name] ?? policy.groups(of: name)
                known[name] = groups
                entries[address]?[index].groups = groups
            }
        }
    }

    /// Removes expired entries; must be called from time to time.
    ///
    /// - Parameter now: the time, in nanoseconds.
    /// - Complexity: O(n) for n entries.
    public mutating func expire(now: UInt64) {
        for address in Array(entries.keys) { expire(address, now: now) }
    }

    private mutating func expire(_ address: IPAddress, now: UInt64) {
        guard var known = entries[address] else { return }
        let before = known.count
        known.removeAll { !Self.isAlive($0, now) }
        count -= before - known.count
        entries[address] = known.isEmpty ? nil : known
    }

    /// Frees an eighth of the table, at least one entry: expired ones, then those that expire first.
    ///
    /// Entries in use stay. An eighth is freed at once, so that a flood of names does not cause a pass over the table
    /// each time.
    private mutating func makeRoom(now: UInt64) {
        expire(now: now)
        let wanted = max(1, capacity / 8) - (capacity - count)
        guard wanted > 0 else { return }
        var idle: [UInt64] = []
        for known in entries.values {
            for entry in known where entry.uses == 0 { idle.append(entry.expiry) }
        }
        idle.sort()
        guard !idle.isEmpty else { return }
        let bound = idle[min(wanted, idle.count) - 1]
        var left = wanted
        for address in Array(entries.keys) where left > 0 {
            guard var known = entries[address] else { continue }
            known.removeAll { entry in
                guard left > 0, entry.uses == 0, entry.expiry <= bound else { return false }
                left -= 1
                count -= 1
                crowdedOut &+= 1
                return true
            }
            entries[address] = known.isEmpty ? nil : known
        }
    }

    private static func isAlive(_ entry: Entry, _ now: UInt64) -> Bool {
        entry.uses > 0 || now < entry.expiry
    }
}
