// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The grammar of a rule:
//
//     SPEC        = [("tcp" | "udp" | "icmp") ":"] DESTINATION [":" PORTS]
//     DESTINATION = ADDRESS | PREFIX | "[" ADDRESS-OR-PREFIX "]" | "[" ADDRESS "]/" LENGTH | NAME | "*." NAME | WORD
//     PORTS       = RANGE {"," RANGE}     RANGE = PORT ["-" PORT]
//
// The ports begin after the bracket, after the length of a prefix, or otherwise after the only colon. In an IPv6
// address without brackets, all colons belong to the address: `2001:db8::1:443` is one address, and ports need
// brackets.

internal import NetworkTypes

extension PolicyRule {
    /// The longest specification in bytes.
    public static let longestSpecification = 4096

    /// Reads a specification.
    ///
    /// - Parameters:
    ///   - verdict: the verdict that the option or the line gives.
    ///   - specification: `[tcp|udp|icmp:]DESTINATION[:PORTS]`.
    ///   - place: the beginning of an error: the option, or the file and its line.
    /// - Throws: if it does not follow the grammar.
    public init(_ verdict: Verdict, specification: String, place: String) throws(PolicyError) {
        do throws(Refusal) {
            var reader = RuleReader(text: specification[...])
            self = try reader.read(verdict)
        } catch {
            throw PolicyError(place, specification, error.problem)
        }
    }
}

/// The error in a specification.
private struct Refusal: Error {
    var problem: String

    init(_ problem: String) {
        self.problem = problem
    }
}

private struct RuleReader {
    var text: Substring

    init(text: Substring) {
        self.text = text
    }

    mutating func read(_ verdict: Verdict) throws(Refusal) -> PolicyRule {
        guard text.utf8.count <= PolicyRule.longestSpecification else {
            throw Refusal("longer than \(PolicyRule.longestSpecification) bytes; write several rules")
        }
        guard text.unicodeScalars.allSatisfy({ (0x21...0x7E).contains($0.value) }) else {
            throw Refusal(
                "only printable ASCII without blanks can stand here; write other names in their xn-- form")
        }
        let transport = takeTransport()
        guard !text.isEmpty else {
            throw Refusal("no destination; write an address, a prefix, a name or \(Self.words)")
        }
        let (place, list) = try split()
        let destination = try Self.destination(place)
        let ports = try list.map { list throws(Refusal) in try Self.ports(list) } ?? []
        if transport == .icmp, !ports.isEmpty { throw Refusal("ICMP has no ports; leave ':\(list ?? "")' out") }
        return PolicyRule(verdict, transport: transport, to: destination, ports: ports)
    }

    private static let words = PolicyRule.Word.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")

    private mutating func takeTransport() -> PolicyTransport? {
        for transport in PolicyTransport.allCases where text.hasPrefix(transport.rawValue + ":") {
            text = text.dropFirst(transport.rawValue.count + 1)
            return transport
        }
        return nil
    }

    /// Divides destination and ports; the ports are nil if there is no colon for them.
    private func split() throws(Refusal) -> (Substring, Substring?) {
        if text.hasPrefix("[") {
            guard let end = text.firstIndex(of: "]") else { throw Refusal("'[' without ']'") }
            let inside = text[text.index(after: text.startIndex)..<end]
            guard inside.contains(":") else { throw Refusal("only IPv6 addresses and prefixes stand in brackets") }
            var rest = text[text.index(after: end)...]
            let length = rest.prefix { $0 != ":" }
            rest = rest.dropFirst(length.count)
            guard length.isEmpty || length.hasPrefix("/") else {
                throw Refusal("'\(length)' after ']'; ports follow a colon")
            }
            return (inside + length, rest.isEmpty ? nil : rest.dropFirst())
        }
        let colons = text.utf8.count { $0 == UInt8(ascii: ":") }
        if let slash = text.firstIndex(of: "/"), let colon = text[slash...].firstIndex(of: ":") {
            return (text[..<colon], text[text.index(after: colon)...])
        }
        if colons == 1, let colon = text.firstIndex(of: ":") {
            return (text[..<colon], text[text.index(after: colon)...])
        }
        if colons > 1, Prefix(text) == nil {
            throw Refusal("not an IPv6 address; write [ADDRESS]:PORTS to name ports, and one transport at most")
        }
        return (text, nil)
    }

    private static func destination(_ text: Substring) throws(Refusal) -> PolicyRule.Destination {
        if let word = PolicyRule.Word(rawValue: String(text)) { return .word(word) }
        if text.contains("/") || text.contains(":") {
            guard let prefix = Prefix(text) else {
                throw Refusal("'\(text)' is no prefix; write ADDRESS/LENGTH, 0 to 32 for IPv4, to 128 for IPv6")
            }
            guard prefix.network == prefix else {
                throw Refusal(
                    "'\(text)' has bits beyond its length; write \(prefix.network), or \(prefix.address) for one host")
            }
            return .prefix(prefix)
        }
        if let address = IPAddress(text) { return .prefix(Prefix(host: address)) }
        if text == "*" { throw Refusal("'*' is no name; write 'any'") }
        let isBelow = text.hasPrefix("*.")
        let plain = isBelow ? text.dropFirst(2) : text
        guard !plain.contains("*") else { throw Refusal("'*' can only stand for the first labels: '*.example.org'") }
        guard let name = DomainName(plain) else {
            throw Refusal("'\(text)' is neither an address nor a prefix, a name nor \(words)")
        }
        if isBelow { return .namesBelow(name) }
        guard name.hasParent || plain.hasSuffix(".") else {
            throw Refusal("'\(text)' is none of \(words); write '\(text).' for a name of one label")
        }
        return .name(name)
    }

    private static func ports(_ list: Substring) throws(Refusal) -> [PortRange] {
        var ranges: [PortRange] = []
        for part in list.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = part.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = ends.first.flatMap({ Port($0) }), let last = ends.last.flatMap({ Port($0) }) else {
                throw Refusal("'\(part)' is no port; write a number, a range as 8000-8100, or a list with commas")
            }
            guard first.rawValue > 0 else { throw Refusal("port 0 does not exist; ports are 1 to 65535") }
            guard let range = PortRange(first.rawValue, last.rawValue) else {
                throw Refusal("'\(part)' ends before it begins; write \(last)-\(first)")
            }
            ranges.append(range)
        }
        return ranges
    }
}
