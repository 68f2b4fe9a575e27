// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// A request of HTTP/1 (RFC 9112). There is no result before the whole header section has arrived: a second Host makes a
// bad request, and a server that uses the other one would bypass the policy. Input that servers interpret differently
// (a bare carriage return, a continued line, a blank before the colon) gives no name.

/// The reader of the server's name in HTTP/1.
enum HostHeader {
    private static let longestMethod = 32
    private static let lineFeed = UInt8(ascii: "\n")
    private static let carriageReturn = UInt8(ascii: "\r")

    static func read(_ bytes: Span<UInt8>) -> ServerName {
        var offset = 0
        guard let requestLine = line(bytes, at: &offset) else {
            return mayBeRequest(bytes) ? .needMore : .otherProtocol
        }
        guard let target = target(requestLine) else { return .otherProtocol }
        var host: [UInt8]?
        while let line = line(bytes, at: &offset) {
            if line.isEmpty { return name(target: target, host: host) }
            guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0,
                line[..<colon].allSatisfy({ isToken($0) }),
                line.allSatisfy({ $0 >= 0x20 && $0 != 0x7F || $0 == UInt8(ascii: "\t") })
            else { return .unusable }
            guard line[..<colon].elementsEqual("host".utf8, by: { $0 | 0x20 == $1 }) else { continue }
            guard host == nil else { return .unusable }
            host = trimmed(line[(colon + 1)...])
        }
        return .needMore
    }

    /// Whether a byte may occur in a method or a header's name (RFC 9110 §5.6.2).
    static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"):
            true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }

    /// The next line without its end; nil if the end has not arrived.
    private static func line(_ bytes: Span<UInt8>, at offset: inout Int) -> [UInt8]? {
        var end = offset
        while end < bytes.count, bytes[end] != lineFeed { end += 1 }
        guard end < bytes.count else { return nil }
        var line: [UInt8] = []
        line.reserveCapacity(end - offset)
        for index in offset..<end { line.append(bytes[index]) }
        offset = end + 1
        if line.last == carriageReturn { line.removeLast() }
        return line
    }

    /// Whether an incomplete first line can be a request's: a method, followed by anything except control characters.
    private static func mayBeRequest(_ bytes: Span<UInt8>) -> Bool {
        var isMethod = true
        for index in bytes.indices {
            let byte = bytes[index]
            if isMethod, byte == UInt8(ascii: " ") {
                isMethod = false
            } else if isMethod {
                guard isToken(byte), index < longestMethod else { return false }
            } else if byte < 0x20 {
                // The line feed may be the next byte.
                return byte == carriageReturn && index == bytes.count - 1
            }
        }
        return true
    }

    /// The target of a request line (RFC 9112 §3); nil if it is not a line of HTTP/1.
    private static func target(_ line: [UInt8]) -> [UInt8]? {
        let words = line.split(separator: UInt8(ascii: " "), omittingEmptySubsequences: false)
        guard words.count >= 3, let method = words.first, let version = words.last,
            (1...longestMethod).contains(method.count), method.allSatisfy({ isToken($0) }),
            version.count == 8, version.starts(with: "HTTP/1.".utf8),
            version.last.map({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) == true,
            line.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
        else { return nil }
        // With more than one blank there is no valid target, and so no name.
        return words.count == 3 ? Array(words[1]) : []
    }

    /// The name from target and header together.
    private static func name(target: [UInt8], host: [UInt8]?) -> ServerName {
        guard !target.isEmpty else { return .unusable }
        let fromHeader = host.map { domain($0) }
        if let host, !host.isEmpty, fromHeader == .some(nil) { return .unusable }
        // A target with a scheme takes precedence over the header (RFC 9112 §3.2.2); both must have the same name.
        if let separator = position(of: "://", in: target), target.first != UInt8(ascii: "/") {
            let rest = target[(separator + 3)...]
            let authority = rest.prefix { !"/?#".utf8.contains($0) }
            guard let name = domain(Array(authority)) else { return .unusable }
            if host != nil, fromHeader != .some(name) { return .unusable }
            return .name(name, isOuter: false)
        }
        guard let name = fromHeader ?? nil else { return .absent }
        return .name(name, isOuter: false)
    }

    /// The name of `NAME[:PORT]`.
    private static func domain(_ bytes: [UInt8]) -> DomainName? {
        let parts = bytes.split(separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
        if parts.count == 2, !parts[1].allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) {
            return nil
        }
        return parts.first.flatMap { DomainName(ascii: Array($0).span) }
    }

    private static func position(of text: StaticString, in bytes: [UInt8]) -> Int? {
        let wanted = Array(text.description.utf8)
        guard bytes.count >= wanted.count else { return nil }
        return (0...(bytes.count - wanted.count)).first { bytes[$0...].starts(with: wanted) }
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        let isBlank = { (byte: UInt8) in byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }
        var rest = bytes.drop(while: isBlank)
        while let last = rest.last, isBlank(last) { rest.removeLast() }
        return Array(rest)
    }
}
