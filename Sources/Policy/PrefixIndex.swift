// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// Finds the prefixes of one family that contain an address.
///
/// Two prefixes are either nested or disjoint. Sorted, they divide the addresses into intervals, each with one
/// innermost prefix, which refers to the next outer one. A lookup is a binary search and a walk outwards, which ends
/// early if no outer prefix has an earlier rule than the best one found.
struct PrefixIndex: Sendable {
    private struct Node {
        var group: Int32
        /// The next outer prefix; -1 if there is none.
        var parent: Int32
        /// The first rule of this prefix and all outer ones.
        var lowest: Int32
    }

    private var starts: [UInt128] = []
    /// The innermost prefix of each interval; -1 if there is none.
    private var innermost: [Int32] = []
    private var nodes: [Node] = []

    /// Makes an index.
    ///
    /// - Parameters:
    ///   - prefixes: prefixes of one family without host bits, none twice, each with its group.
    ///   - lowest: the first rule of each group.
    init(_ prefixes: [(prefix: Prefix, group: Int32)], lowest: [Int32]) {
        let sorted = prefixes.map { entry in
            let first = Self.key(entry.prefix.address)
            let hostBits = entry.prefix.family.addressBitCount - entry.prefix.length
            let span: UInt128 = hostBits == 128 ? .max : (1 << UInt128(hostBits)) - 1
            return (first: first, last: first + span, group: entry.group)
        }.sorted { ($0.first, $1.last) < ($1.first, $0.last) }
        var open: [(node: Int32, last: UInt128)] = []
        for (first, last, group) in sorted {
            while let top = open.last, top.last < first { close(&open, top.last) }
            let parent = open.last?.node ?? -1
            let outer = parent < 0 ? RuleGroups.none : nodes[Int(parent)].lowest
            nodes.append(Node(group: group, parent: parent, lowest: min(outer, lowest[Int(group)])))
            let node = Int32(nodes.count - 1)
            begin(first, node)
            open.append((node, last))
        }
        while let top = open.last { close(&open, top.last) }
    }

    /// Calls a function for the groups of the prefixes that contain an address, the innermost first.
    ///
    /// - Parameters:
    ///   - address: an address of the index's family.
    ///   - best: the earliest rule found so far; prefixes without an earlier one may be skipped.
    ///   - visit: receives a group's number, and updates the earliest rule.
    func walk(_ address: IPAddress, best: inout Int32, _ visit: (Int32, inout Int32) -> Void) {
        var node = find(Self.key(address))
        while node >= 0 {
            let entry = nodes[Int(node)]
            if entry.lowest >= best { return }
            visit(entry.group, &best)
            node = entry.parent
        }
    }

    private func find(_ key: UInt128) -> Int32 {
        var low = 0
        var high = starts.count
        while low < high {
            let middle = (low + high) / 2
            if starts[middle] <= key { low = middle + 1 } else { high = middle }
        }
        return low == 0 ? -1 : innermost[low - 1]
    }

    /// Ends the innermost open prefix; the following addresses belong to the next outer one.
    private mutating func close(_ open: inout [(node: Int32, last: UInt128)], _ last: UInt128) {
        open.removeLast()
        if last < .max { begin(last + 1, open.last?.node ?? -1) }
    }

    private mutating func begin(_ start: UInt128, _ node: Int32) {
        if starts.last == start {
            innermost[innermost.count - 1] = node
        } else {
            starts.append(start)
            innermost.append(node)
        }
    }

    private static func key(_ address: IPAddress) -> UInt128 {
        switch address {
        case .v4(let v4): UInt128(v4.rawValue)
        case .v6(let v6): UInt128(v6.high) << 64 | UInt128(v6.low)
        }
    }
}
