// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
internal import NetworkTypes

/// `tapasctl explain` for people.
public enum ExplainText {
    /// The lines: one line for a destination, otherwise a part for each family.
    ///
    /// - Parameters:
    ///   - answer: the instance's answer.
    ///   - style: whether to use colours.
    /// - Returns: the lines, without their ends.
    public static func lines(_ answer: JSONValue, _ style: TextStyle) -> [String] {
        if let text = answer["text"]?.string { return [text.escapingControlCharacters] }
        var lines: [String] = []
        for (name, title) in [("ipv4", "IPv4"), ("ipv6", "IPv6")] {
            guard let family = answer["families"]?[name] else { continue }
            if !lines.isEmpty { lines.append("") }
            lines += part(family, title, style)
        }
        let general = answer["general"]?.array ?? []
        if !general.isEmpty {
            lines += ["", style.paint("Both families", .bold)]
            lines += general.map { "  " + ($0["text"]?.string ?? "").escapingControlCharacters }
        }
        return lines
    }

    private static func part(_ family: JSONValue, _ title: String, _ style: TextStyle) -> [String] {
        let name = family["interface"]?.string.map { " \($0)" } ?? ""
        var lines = [style.paint("\(title): \(family["mode"]?.string ?? "?")\(name)".escapingControlCharacters, .bold)]
        if let lookup = family["lookup"], lookup != .null { lines.append("  " + self.lookup(lookup)) }
        let candidates = family["candidates"]?.array ?? []
        lines.append(candidates.isEmpty ? "  no host interface was a candidate" : "  host interfaces, in order:")
        var table = TextTable()
        for (index, candidate) in candidates.enumerated() {
            table.add(
                "    \(index + 1).", candidate["interface"]?.string ?? "?", candidate["verdict"]?.string ?? "?",
                candidate["text"]?.string ?? "")
        }
        for (line, candidate) in zip(table.lines, candidates) {
            lines.append(candidate["verdict"]?.string == "template" ? style.paint(line, .green) : line)
        }
        let listed: Set<String> = Set(candidates.compactMap { $0["text"]?.string })
        let others = (family["reasons"]?.array ?? []).compactMap { $0["text"]?.string }.filter { !listed.contains($0) }
        if !others.isEmpty { lines.append("  what came of it:") }
        lines += others.map { "    " + $0.escapingControlCharacters }
        return lines
    }

    private static func lookup(_ lookup: JSONValue) -> String {
        let destination = lookup["destination"]?.string ?? "?"
        let maybe = lookup["rule"]?["certain"]?.bool == false ? "maybe " : ""
        let rule = lookup["rule"]?["text"]?.string.map { ", \(maybe)by policy rule '\($0)'" } ?? ""
        let text: String
        if let errno = lookup["errno"]?.integer {
            text = "the host's kernel refuses packets to everywhere (asked for \(destination)): errno \(errno)\(rule)"
        } else {
            let gateway = lookup["gateway"]?.string.map { " via \($0)" } ?? ""
            text =
                "the host's kernel sends packets to everywhere by \(lookup["interface"]?.string ?? "?")\(gateway) "
                + "(asked for \(destination))\(rule)"
        }
        return text.escapingControlCharacters
    }
}
