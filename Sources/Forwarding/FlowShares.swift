// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// When there is no room for a new flow, one is evicted: of the kind with most flows, of the source with most flows of
// that kind, of the destination with most flows of that source. So a flood competes with itself, and other senders keep
// their flows. Sources and destinations are hashed, with 64 by 32 lists for each kind. If a flood spreads over all lists,
// the oldest flow of a list is evicted, because each list is in the order of age; so a new flow has time to finish.
//
// Two kinds are protected. Established connections are evicted only if there is nothing else. Handshakes that are younger
// than `handshakeTime` are evicted only if they occupy more than a quarter of all flows.
//
// Lists are intrusive (the links are in `Flow`) and in the order in which flows were filed. No flow is moved for a
// packet: a flow that has been active since it was filed is filed again when it becomes the oldest, as often as
// `secondChances` says. So a packet costs nothing, and an eviction costs a few dozen steps for any number of flows.
//
// The lists also show which senders flood (`standing`): those with many unfinished flows of which the oldest has waited
// long. The flows of ordinary programs are finished in a round trip, and each finished flow lets two more begin, so
// their bursts do not count as a flood for long. Flows of a list that floods are opened at a steady rate: opening a flow
// costs fifty times as much as refusing it, here and in the kernel, and all senders share the processors.

internal import Glibc
internal import NetworkTypes

/// The flows by kind, source and destination, each list in the order of age.
@safe
struct FlowShares: ~Copyable {
    /// Lists of sources for each kind.
    static let sources = 64
    /// Lists of destinations for each source.
    private static let peers = 32
    /// How many flows that are in use are skipped before one is evicted.
    private static let secondChances = 64
    /// How long a handshake is protected while other flows can be evicted, in nanoseconds.
    static let handshakeTime: Int64 = 3_000_000_000
    /// The number of handshakes that are spared at the expense of established connections, if there is nothing else.
    private static let keptHandshakes = 64

    /// A list with at least this number of unfinished flows has many.
    static let crowd = 64
    /// How long the oldest of many unfinished flows must have waited for them to be a flood, in nanoseconds.
    static let patience: Int64 = 200_000_000
    /// The time from one opening to the next for a list that floods, in nanoseconds: 500 a second.
    static let floodInterval: Int64 = 2_000_000
    /// How far a list that floods may be ahead of that rate, in nanoseconds.
    private static let floodBurst: Int64 = 32 * floodInterval
    /// The greatest credit of a list: flows that may begin because others were finished.
    private static let mostCredit: Int32 = 4096

    /// How a new flow compares with the unfinished flows of its list.
    enum Standing {
        /// Few flows are unfinished, or as many are finished as begin.
        case modest
        /// Many flows are unfinished, but not for long.
        case crowded
        /// Many flows have been unfinished for long; the new one is refused.
        case flooding
    }

    /// A list; it stores indices plus one, so that zeroed memory holds empty lists.
    private struct List {
        var oldest: Int32
        var newest: Int32
        var count: Int32
        /// The number of flows that may begin regardless of unfinished ones.
        var credit: Int32
        /// When the next opening is due while the list floods, in nanoseconds.
        var nextOpening: Int64
    }

    private let lists: UnsafeMutablePointer<List>
    private let sourceCounts: UnsafeMutablePointer<Int32>
    private var counts: InlineArray<8, Int32> = .init(repeating: 0)

    init() {
        let kinds = FlowKind.allCases.count
        guard let lists = unsafe calloc(kinds * Self.sources * Self.peers, MemoryLayout<List>.stride),
            let counts = unsafe calloc(kinds * Self.sources, MemoryLayout<Int32>.stride)
        else { preconditionFailure("no memory for the lists of flows") }
        unsafe self.lists = lists.assumingMemoryBound(to: List.self)
        unsafe sourceCounts = counts.assumingMemoryBound(to: Int32.self)
    }

    deinit {
        unsafe free(lists)
        unsafe free(sourceCounts)
    }

    /// The number of flows of a kind.
    func count(of kind: FlowKind) -> Int { Int(counts[Int(kind.rawValue)]) }

    // MARK: Filing

    /// Files a flow as the newest of its kind.
    mutating func file(_ index: Int, as kind: FlowKind, in flows: UnsafeMutablePointer<Flow>) {
        unsafe flows[index].list = UInt16(Self.list(of: flows[index].key, as: kind))
        unsafe append(index, in: flows)
    }

    /// The list of a flow.
    private static func list(of key: FlowKey, as kind: FlowKind) -> Int {
        let parties = key.parties(isInbound: kind.isInbound)
        let source = Int(kind.rawValue) * sources + (parties.source & (sources - 1))
        return source * peers + (parties.peer & (peers - 1))
    }

    /// How a new flow compares with the unfinished ones of its list; it is counted if it is not refused.
    mutating func standing(
        of key: FlowKey, as kind: FlowKind, now: Int64, in flows: UnsafeMutablePointer<Flow>
    ) -> Standing {
        let number = Self.list(of: key, as: kind)
        guard unsafe Int(lists[number].count) >= Self.crowd else { return .modest }
        if unsafe lists[number].credit > 0 {
            unsafe lists[number].credit = unsafe lists[number].credit - 1
            return .modest
        }
        let oldest = unsafe Int(lists[number].oldest) - 1
        guard unsafe now &- flows[oldest].filed > Self.patience else { return .crowded }
        let due = unsafe max(lists[number].nextOpening, now &- Self.floodBurst)
        guard due <= now else { return .flooding }
        unsafe lists[number].nextOpening = due &+ Self.floodInterval
        return .crowded
    }

    /// Notes that a flow is finished, before it is removed from its list.
    mutating func finish(_ index: Int, in flows: UnsafeMutablePointer<Flow>) {
        let number = unsafe Int(flows[index].list)
        unsafe lists[number].credit = unsafe min(lists[number].credit + 2, Self.mostCredit)
    }

    private mutating func append(_ index: Int, in flows: UnsafeMutablePointer<Flow>) {
        let number = unsafe Int(flows[index].list)
        let newest = unsafe lists[number].newest
        unsafe flows[index].filed = unsafe flows[index].activity
        unsafe flows[index].older = newest
        unsafe flows[index].newer = 0
        if newest == 0 {
            unsafe lists[number].oldest = Int32(index + 1)
        } else {
            unsafe flows[Int(newest) - 1].newer = Int32(index + 1)
        }
        unsafe lists[number].newest = Int32(index + 1)
        add(1, to: number)
    }

    /// Removes a flow from its list.
    mutating func remove(_ index: Int, in flows: UnsafeMutablePointer<Flow>) {
        let number = unsafe Int(flows[index].list)
        let older = unsafe flows[index].older
        let newer = unsafe flows[index].newer
        if older == 0 {
            unsafe lists[number].oldest = newer
        } else {
            unsafe flows[Int(older) - 1].newer = newer
        }
        if newer == 0 {
            unsafe lists[number].newest = older
        } else {
            unsafe flows[Int(newer) - 1].older = older
        }
        add(-1, to: number)
    }

    private mutating func add(_ change: Int32, to list: Int) {
        let source = list / Self.peers
        let kind = source / Self.sources
        unsafe lists[list].count = unsafe lists[list].count + change
        unsafe sourceCounts[source] = unsafe sourceCounts[source] + change
        counts[kind] += change
    }

    /// The kind that a flow is filed as.
    static func kind(of flow: Flow) -> FlowKind {
        FlowKind(rawValue: UInt8(Int(flow.list) / (sources * peers))) ?? .connection
    }

    // MARK: Making room

    /// The flow of a kind to evict when the kind has reached its limit; nil if there is none.
    func candidate(of kind: FlowKind, in flows: UnsafeMutablePointer<Flow>) -> Int? {
        unsafe oldest(of: kind, sparing: -1, in: flows)
    }

    /// The flow to evict; nil if there is none except `spared`.
    mutating func candidate(now: Int64, sparing spared: Int, in flows: UnsafeMutablePointer<Flow>) -> Int? {
        var chances = Self.secondChances
        var idlest: Int?
        while let index = unsafe pick(now: now, sparing: spared, in: flows) {
            // A handshake gains nothing by being repeated.
            let flow = unsafe flows[index]
            if flow.activity == flow.filed || Self.kind(of: flow).isHandshake { return index }
            if idlest.map({ unsafe flow.activity < flows[$0].activity }) ?? true { idlest = index }
            if chances == 0 { return idlest }
            chances -= 1
            unsafe remove(index, in: flows)
            unsafe append(index, in: flows)
        }
        return nil
    }

    /// The oldest flow of the longest list, of the source with most flows, of the kind with most flows.
    private func pick(now: Int64, sparing spared: Int, in flows: UnsafeMutablePointer<Flow>) -> Int? {
        var total = 0
        for kind in FlowKind.allCases { total += count(of: kind) }
        var best: Int?
        var greatest = 0
        var handshakes = 0
        var handshake: Int?
        for kind in FlowKind.allCases where kind != .connection && count(of: kind) > 0 {
            guard let index = unsafe oldest(of: kind, sparing: spared, in: flows) else { continue }
            var count = count(of: kind)
            if kind.isHandshake {
                handshakes += count
                handshake = index
                if now &- (unsafe flows[index].filed) < Self.handshakeTime { count -= total / 4 }
            }
            if count * kind.evictionFactor > greatest {
                greatest = count * kind.evictionFactor
                best = index
            }
        }
        if let best { return best }
        // There are only connections and young handshakes.
        if handshakes > min(Self.keptHandshakes, total / 16), let handshake { return handshake }
        return unsafe oldest(of: .connection, sparing: spared, in: flows) ?? handshake
    }

    private func oldest(of kind: FlowKind, sparing spared: Int, in flows: UnsafeMutablePointer<Flow>) -> Int? {
        let firstSource = Int(kind.rawValue) * Self.sources
        var source = firstSource
        for other in firstSource..<firstSource + Self.sources
        where unsafe sourceCounts[other] > sourceCounts[source] {
            source = other
        }
        let firstList = source * Self.peers
        var list = firstList
        for other in firstList..<firstList + Self.peers where unsafe lists[other].count > lists[list].count {
            list = other
        }
        let oldest = unsafe Int(lists[list].oldest) - 1
        guard oldest == spared else { return oldest >= 0 ? oldest : nil }
        let next = unsafe Int(flows[oldest].newer) - 1
        if next >= 0 { return next }
        // The spared flow is alone in the longest list, so every other list of the kind has one flow at most.
        for other in firstSource * Self.peers..<(firstSource + Self.sources) * Self.peers where other != list {
            if unsafe lists[other].oldest != 0 { return unsafe Int(lists[other].oldest) - 1 }
        }
        return nil
    }
}
