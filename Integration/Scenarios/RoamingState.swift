// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab

/// States of a namespace as canonical lines, without what only lasts as long as flows do.
enum RoamingState {
    /// Takes the addresses that linger for old flows out of a state, with what they bring along.
    ///
    /// - Parameters:
    ///   - state: The lines of a namespace.
    ///   - wanted: The lines to compare with.
    /// - Returns: Both, sorted and comparable.
    static func lasting(_ state: [String], _ wanted: [String]) -> ([String], [String]) {
        let lingering = state.filter { $0.hasPrefix("addr ") && $0.hasSuffix(" deprecated") && !wanted.contains($0) }
        guard !lingering.isEmpty else { return (state.sorted(), wanted.sorted()) }
        let addresses = lingering.compactMap { $0.words[1].split(separator: "/").first }
        func isWanted(_ line: String) -> Bool {
            if lingering.contains(line) { return false }
            guard !wanted.contains(line) else { return true }
            // The connected routes of what lingers.
            if addresses.contains(where: { line.hasPrefix("route ") && line.hasSuffix("scope link src \($0)") }) {
                return false
            }
            return !addresses.contains { address in
                guard line.hasPrefix("route6 "), let prefix = line.words[1].split(separator: "::/").first else {
                    return false
                }
                return address.hasPrefix(prefix)
            }
        }
        // While an address lingers the default names its source, for IPv4 knows nothing of deprecation.
        func plain(_ line: String) -> String {
            guard line.hasPrefix("route default "), let position = line.words.firstIndex(of: "src") else { return line }
            var words = line.words
            words.removeSubrange(position...position + 1)
            return words.joined(separator: " ")
        }
        // In the network of one that lingers, another is a secondary one.
        func first(_ line: String) -> String {
            line.hasPrefix("addr ") && line.hasSuffix(" secondary") ? String(line.dropLast(10)) : line
        }
        return (
            state.filter(isWanted).map { first(plain($0)) }.sorted(), wanted.map { first(plain($0)) }.sorted()
        )
    }
}

extension String {
    var words: [String] { split(separator: " ").map(String.init) }
    var lines: [String] { split(separator: "\n", omittingEmptySubsequences: false).map(String.init) }

    /// `tcp` or `udp`, of a flow's name.
    var kind: String { String(prefix(3)) }
    var isIPv6: Bool { dropFirst(3).first == "6" }
    var beyond: String { Roaming.beyond[isIPv6 ? 1 : 0] }

    func replacingWord(_ position: Int, by word: String) -> String {
        var words = words
        guard words.indices.contains(position) else { return self }
        words[position] = word
        return words.joined(separator: " ")
    }
}
