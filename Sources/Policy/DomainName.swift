// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Wire

/// A domain name that a rule can contain: lower case, without the dot at its end.
///
/// Labels consist of letters, digits, `-` and `_`. Other names exist in the DNS (RFC 2181 §11), but rules cannot
/// contain them, so a zero byte or a dot inside a label never makes one name look like another.
public struct DomainName: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The longest text in bytes; the wire form adds a length and the root (RFC 1035 §2.3.4).
    public static let maximumLength = DNSName.maximumLength - 2

    /// The labels joined by dots.
    public let text: String

    /// Reads a name; nil if it is not valid, or ends in a number and so looks like an address.
    ///
    /// - Parameter text: labels joined by dots, with or without a dot at the end.
    public init?(_ text: some StringProtocol) {
        var labels = text.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        if labels.count > 1, labels.last?.isEmpty == true { labels.removeLast() }
        self.init(labels: labels)
    }

    /// Converts a name of a message; nil if rules cannot contain it.
    public init?(_ name: DNSName) {
        let bytes = name.wireBytes
        var labels: [ArraySlice<UInt8>] = []
        var position = 0
        while position < bytes.count, bytes[position] != 0 {
            let end = position + 1 + Int(bytes[position])
            guard end < bytes.count else { return nil }
            labels.append(bytes[(position + 1)..<end])
            position = end
        }
        self.init(labels: labels)
    }

    /// Reads the bytes of a name in another protocol; nil if any is not ASCII.
    init?(ascii bytes: Span<UInt8>) {
        guard (1...Self.maximumLength + 1).contains(bytes.count) else { return nil }
        var text = ""
        for index in bytes.indices {
            guard bytes[index] < 0x80 else { return nil }
            text.unicodeScalars.append(Unicode.Scalar(bytes[index]))
        }
        self.init(text)
    }

    private init?(labels: some BidirectionalCollection<some Collection<UInt8>>) {
        guard let last = labels.last, !Self.isNumber(last) else { return nil }
        var bytes: [UInt8] = []
        for label in labels {
            guard (1...63).contains(label.count) else { return nil }
            if !bytes.isEmpty { bytes.append(UInt8(ascii: ".")) }
            for byte in label {
                guard let lower = Self.canonical(byte) else { return nil }
                bytes.append(lower)
            }
            guard bytes.count <= Self.maximumLength else { return nil }
        }
        text = String(decoding: bytes, as: UTF8.self)
    }

    /// The lower-case form of a byte that may stand in a label.
    private static func canonical(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"):
            byte
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): byte + 32
        default: nil
        }
    }

    /// Whether inet_aton(3) would read a label as a number: then the whole text is an address, or is meant as one.
    private static func isNumber(_ label: some Collection<UInt8>) -> Bool {
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        if label.allSatisfy({ digits.contains($0) }) { return true }
        let rest = label.dropFirst(2)
        return label.first == UInt8(ascii: "0") && label.dropFirst().first.map { $0 | 0x20 } == UInt8(ascii: "x")
            && rest.allSatisfy { digits.contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0 | 0x20) }
    }

    /// The names above this one, the nearest first: for `a.b.org` they are `b.org` and `org`.
    var parents: [String] {
        var found: [String] = []
        var rest = text[...]
        while let dot = rest.firstIndex(of: ".") {
            rest = rest[rest.index(after: dot)...]
            found.append(String(rest))
        }
        return found
    }

    /// Whether the name has more than one label.
    var hasParent: Bool { text.utf8.contains(UInt8(ascii: ".")) }

    /// The text.
    public var description: String { text }

    /// Orders names by their text.
    public static func < (a: DomainName, b: DomainName) -> Bool { a.text < b.text }
}
