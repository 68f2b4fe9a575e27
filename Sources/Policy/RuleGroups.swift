// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The rules of each destination, as tables from a port to the first rule that covers it.
///
/// A group is the set of rules with the same destination. For each transport, they become runs of ports with one owner,
/// which is the first rule that covers them. All groups are stored in the same two arrays, so that a lookup is one
/// binary search in contiguous memory.
struct RuleGroups: Sendable {
    /// "No rule", which is after all rules.
    static let none = Int32.max

    private struct Runs {
        var offset: Int32 = 0
        var count: Int32 = 0
    }

    private struct Group {
        var tcp = Runs()
        var udp = Runs()
        var icmp = RuleGroups.none
        /// The first rule of the group that allows something.
        var firstAllowing = RuleGroups.none
        /// The first rule of the group that denies everything.
        var firstDenyingAll = RuleGroups.none
    }

    /// The first port of each run.
    private var starts: [UInt16] = []
    /// The rule that owns each run.
    private var owners: [Int32] = []
    private var groups: [Group] = []
    /// The first rule of each group.
    private(set) var lowest: [Int32] = []

    /// Adds a group.
    ///
    /// - Parameter rules: the rules with their numbers, in ascending order.
    /// - Returns: The group's number.
    mutating func add(_ rules: [(number: Int32, rule: PolicyRule)]) -> Int32 {
        var group = Group()
        group.tcp = addRuns(rules, .tcp)
        group.udp = addRuns(rules, .udp)
        group.icmp = rules.first { $0.rule.coveredPorts(of: .icmp) != nil }?.number ?? Self.none
        group.firstAllowing = rules.first { $0.rule.verdict == .allow }?.number ?? Self.none
        group.firstDenyingAll = rules.first { $0.rule.verdict == .deny && $0.rule.isComplete }?.number ?? Self.none
        groups.append(group)
        lowest.append(rules.first?.number ?? Self.none)
        return Int32(groups.count - 1)
    }

    /// The first rule of a group that covers a port; none if there is none.
    func first(_ group: Int32, _ transport: PolicyTransport, port: UInt16) -> Int32 {
        let group = groups[Int(group)]
        let runs: Runs
        switch transport {
        case .icmp: return group.icmp
        case .tcp: runs = group.tcp
        case .udp: runs = group.udp
        }
        guard runs.count > 0 else { return Self.none }
        // The first run begins at port 0, so that there is always one that contains the port.
        var low = Int(runs.offset)
        var high = low + Int(runs.count)
        while high - low > 1 {
            let middle = (low + high) / 2
            if starts[middle] <= port { low = middle } else { high = middle }
        }
        return owners[low]
    }

    /// The first rule of a group that allows something, and the first that denies everything.
    func bounds(_ group: Int32) -> (allowing: Int32, denyingAll: Int32) {
        (groups[Int(group)].firstAllowing, groups[Int(group)].firstDenyingAll)
    }

    /// Assigns ports to the rules in order; an assigned port keeps its rule.
    private mutating func addRuns(
        _ rules: [(number: Int32, rule: PolicyRule)], _ transport: PolicyTransport
    ) -> Runs {
        var strokes: [(range: PortRange, number: Int32)] = []
        for (number, rule) in rules {
            for range in rule.coveredPorts(of: transport) ?? [] { strokes.append((range, number)) }
        }
        guard !strokes.isEmpty else { return Runs() }
        // The same rules cover all ports between two neighbouring edges.
        var edges = [0]
        for (range, _) in strokes {
            edges.append(Int(range.first))
            edges.append(Int(range.last) + 1)
        }
        edges.sort()
        var cells: [Int] = []
        for edge in edges where edge <= Int(UInt16.max) && cells.last != edge { cells.append(edge) }
        var painted = [Int32](repeating: Self.none, count: cells.count)
        // Leads from a cell to the next unassigned one, itself included (union-find with path halving).
        var next = Array(0...cells.count)
        for (range, number) in strokes {
            var cell = Self.bare(Self.position(of: Int(range.first), in: cells), &next)
            while cell < cells.count, cells[cell] <= Int(range.last) {
                painted[cell] = number
                next[cell] = cell + 1
                cell = Self.bare(cell, &next)
            }
        }
        let offset = starts.count
        for (cell, owner) in zip(cells, painted) where starts.count == offset || owners.last != owner {
            starts.append(UInt16(cell))
            owners.append(owner)
        }
        return Runs(offset: Int32(offset), count: Int32(starts.count - offset))
    }

    private static func bare(_ cell: Int, _ next: inout [Int]) -> Int {
        var cell = cell
        while next[cell] != cell {
            next[cell] = next[next[cell]]
            cell = next[cell]
        }
        return cell
    }

    private static func position(of edge: Int, in cells: [Int]) -> Int {
        var low = 0
        var high = cells.count
        while low < high {
            let middle = (low + high) / 2
            if cells[middle] < edge { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
