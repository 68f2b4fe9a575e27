// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// When there is no room for a new flow, the one that goes is one of the kind that has most, of the source that has most
// of that kind, of the destination that has most of that source. So whoever floods makes room for everybody else: the
// flood competes with itself. Sources and destinations are hashed, 64 by 32 lists for each kind; where a flood spreads
// over all of them, each list is in the order of age and the oldest goes, so that a new flow has its time.
//
// Two kinds are protected. Established connections go only where nothing else can. Handshakes that are younger than
// `handshakeTime` count only as far as they have more than a quarter of all flows.
//
// Lists are intrusive (the links are in `Flow`) and in the order in which flows were filed. Nothing is moved for a
// packet: a flow whose last activity is later than its filing is filed again when it comes to be the oldest, as often
// as `secondChances` says. So a packet costs nothing, and making room costs a few dozen steps, however many flows
// there are.
//
// The lists also say who floods (`standing`): who has many unfinished flows, of which the oldest has waited for long.
// What programs open is finished in a round trip, and each flow that is finished lets two more begin, so that bursts of
// them are never taken for a flood for long. A list that floods is opened for at a steady rate and no faster: opening a
// flow costs fifty times what refusing it does, here and in the kernel, and everybody shares the processors.

internal import Glibc
internal import NetworkTypes

/// The flows by kind and by who has opened them to whom, each list in the order of age.
@safe
struct FlowShares: ~Copyable {
    /// Lists of sources for each kind.
    static let sources = 64
    /// Lists of destinations for each source.
    private static let peers = 32
    /// How often a flow that is in use is passed over before one has to go.
    private static let secondChances = 64
    /// How long a handshake is given, in nanoseconds, while others can go.
    static let handshakeTime: Int64 = 3_000_000_000
    /// Handshakes at most that are kept at the expense of established connections, where there is nothing else.
    private static let keptHandshakes = 64

    /// Unfinished flows of one list from which on it is one of those that have many.
    static let crowd = 64
    /// How long the oldest of many unfinished flows has waited once they are a flood, in nanoseconds.
    static let patience: Int64 = 200_000_000
    /// The time from one opening to the next for a list that floods, in nanoseconds: 500 a second.
    static let floodInterval: Int64 = 2_000_000
    /// How far a list that floods may be ahead of that, in nanoseconds.
    private static let floodBurst: Int64 = 32 * floodInterval
    /// What a list may have as credit at most: flows that may begin because others were finished.
    private static let mostCredit: Int32 = 4096

    /// How a new flow stands to those that are unfinished.
    enum Standing {
        /// Few are, or as many are finished as begin.
        case modest
        /// Many are, but not for long.
        case crowded
        /// Many are, and have been for long: it is one too many.
        case flooding
    }

    /// A list; indices plus one, so that fresh memory is empty lists.
    private struct List {
        var oldest: Int32
        var newest: Int32
        var count: Int32
        /// Flows that may begin whatever is unfinished.
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

    /// How many flows of a kind there are.
    func count(of kind: FlowKind) -> Int { Int(counts[Int(kind.rawValue)]) }

    // MARK: Filing

    /// Files a flow as the newest of its kind.
    mutating func file(_ index: Int, as kind: FlowKind, in flows: UnsafeMutablePointer<Flow>) {
        unsafe flows[index].list = UInt16(Self.list(of: flows[index].key, as: kind))
        unsafe append(index, in: flows)
    }

    /// The list that a flow stands in.
    private static func list(of key: FlowKey, as kind: FlowKind) -> Int {
        let parties = key.parties(isInbound: kind.isInbound)
        let source = Int(kind.rawValue) * sources + (parties.source & (sources - 1))
        return source * peers + (parties.peer & (peers - 1))
    }

    /// How a flow that is about to begin stands to the unfinished ones of its list; counts it if it is not one too many.
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

    /// Notes that a flow is finished, before it is taken out of its list.
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

    /// Takes a flow out of its list.
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

    /// The flow of a kind that is to go where the kind has as many as it may; nil if there is none.
    func candidate(of kind: FlowKind, in flows: UnsafeMutablePointer<Flow>) -> Int? {
        unsafe oldest(of: kind, sparing: -1, in: flows)
    }

    /// The flow that is to go; nil if there is none but `spared`.
    mutating func candidate(now: Int64, sparing spared: Int, in flows: UnsafeMutablePointer<Flow>) -> Int? {
        var chances = Self.secondChances
        var idlest: Int?
        while let index = unsafe pick(now: now, sparing: spared, in: flows) {
            // A handshake is not worth more for being repeated.
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

    /// The oldest of the list that has most, of the source that has most, of the kind that has most.
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
            if count * kind.weight > greatest {
                greatest = count * kind.weight
                best = index
            }
        }
        if let best { return best }
        // Nothing but connections and young handshakes.
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
        // The one that is spared is alone in the longest list: any other list of the kind is as long.
        for other in firstSource * Self.peers..<(firstSource + Self.sources) * Self.peers where other != list {
            if unsafe lists[other].oldest != 0 { return unsafe Int(lists[other].oldest) - 1 }
        }
        return nil
    }
}
