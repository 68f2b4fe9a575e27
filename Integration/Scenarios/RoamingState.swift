// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab

/// States of a namespace as canonical lines, without what only lasts as long as flows do.
enum RoamingState {
    /// Takes the addresses that linger for connections out of a state.
    ///
    /// They bring nothing along, but for the source that IPv6 defaults name where there is only a link-local one.
    ///
    /// - Parameters:
    ///   - state: The lines of a namespace.
    ///   - wanted: The lines to compare with.
    /// - Returns: Both, sorted and comparable.
    static func lasting(_ state: [String], _ wanted: [String]) -> ([String], [String]) {
        let lingering = state.filter { line in
            let hasForm = ["/32", "/128"].contains { line.hasSuffix("\($0) noprefixroute deprecated") }
            return line.hasPrefix("addr ") && hasForm && !wanted.contains(line)
        }
        guard lingering.contains(where: { $0.contains(":") }) else {
            return (state.filter { !lingering.contains($0) }.sorted(), wanted.sorted())
        }
        func plain(_ line: String) -> String {
            guard line.hasPrefix("route6 default "), let position = line.words.firstIndex(of: "src"),
                line.words[position + 1].hasPrefix("fe80:")
            else { return line }
            var words = line.words
            words.removeSubrange(position...position + 1)
            return words.joined(separator: " ")
        }
        return (state.filter { !lingering.contains($0) }.map(plain).sorted(), wanted.map(plain).sorted())
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
