// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A domain name (RFC 1035 §3.1), kept as on the wire and without compression.
public struct DNSName: Hashable, Sendable {
    /// The longest name in bytes.
    public static let maximumLength = 255
    private static let maximumLabelLength = 63
    /// The most pointers that are followed.
    private static let maximumPointerCount = 32

    /// The labels, each with its length before it, and the root's empty one.
    public let wireBytes: [UInt8]

    /// The root.
    public static let root = DNSName(wire: [0])

    private init(wire: [UInt8]) {
        wireBytes = wire
    }

    /// Makes a name from labels joined by dots, with or without a dot at the end; nil if a label is empty or too long.
    public init?(_ text: some StringProtocol) {
        var wire: [UInt8] = []
        let trimmed = text.hasSuffix(".") ? text.dropLast() : text[...]
        for label in trimmed.split(separator: ".", omittingEmptySubsequences: false) {
            let bytes = Array(label.utf8)
            guard (1...Self.maximumLabelLength).contains(bytes.count) else { return nil }
            wire.append(UInt8(bytes.count))
            wire += bytes
        }
        wire.append(0)
        guard wire.count <= Self.maximumLength else { return nil }
        wireBytes = wire
    }

    /// Reads a name in a message, following compression (RFC 1035 §4.1.4).
    ///
    /// - Parameters:
    ///   - message: the whole message, which pointers refer to.
    ///   - offset: where the name starts; afterwards where the data behind it starts.
    /// - Throws: ``ParseError/truncated``, ``ParseError/tooLong`` (name or chain of pointers),
    ///   ``ParseError/badValue`` (label type, or a pointer that does not go back).
    public init(_ message: Span<UInt8>, at offset: inout Int) throws(ParseError) {
        var wire: [UInt8] = []
        var position = offset
        let limit = message.count
        var pointers = 0
        while true {
            guard position >= 0, position < limit else { throw .truncated }
            let length = Int(message[position])
            switch length >> 6 {
            case 0:
                guard length < limit - position else { throw .truncated }
                for index in position...position + length { wire.append(message[index]) }
                guard wire.count <= Self.maximumLength else { throw .tooLong }
                position += 1 + length
                if length == 0 {
                    if pointers == 0 { offset = position }
                    wireBytes = wire
                    return
                }
            case 3:
                guard limit - position >= 2 else { throw .truncated }
                let target = Int(message.bigEndian16(at: position) & 0x3FFF)
                guard target < position else { throw .badValue }
                if pointers == 0 { offset = position + 2 }
                pointers += 1
                guard pointers <= Self.maximumPointerCount else { throw .tooLong }
                position = target
            default: throw .badValue
            }
        }
    }
}

extension DNSName: CustomStringConvertible {
    /// The labels joined by dots, bytes that are not printable or are dots as `\DDD` (RFC 1035 §5.1); "." for the root.
    public var description: String {
        var text = ""
        var position = 0
        while position < wireBytes.count, wireBytes[position] != 0 {
            let end = position + 1 + Int(wireBytes[position])
            if !text.isEmpty { text += "." }
            for byte in wireBytes[(position + 1)..<min(end, wireBytes.count)] {
                if (0x21...0x7E).contains(byte), byte != UInt8(ascii: "."), byte != UInt8(ascii: "\\") {
                    text.unicodeScalars.append(Unicode.Scalar(byte))
                } else {
                    let digits = String(byte)
                    text += "\\" + String(repeating: "0", count: 3 - digits.count) + digits
                }
            }
            position = end
        }
        return text.isEmpty ? "." : text
    }
}

/// The header of a DNS message (RFC 1035 §4.1.1).
public struct DNSHeader: Hashable, Sendable {
    /// The length in bytes.
    public static let length = 12

    /// What a reply reports.
    public enum ResponseCode: UInt16, Hashable, Sendable {
        /// No error.
        case success = 0
        /// The query was not understood.
        case formatError = 1
        /// The server could not answer.
        case serverFailure = 2
        /// The name does not exist.
        case nameError = 3
        /// The kind of query is not supported.
        case notImplemented = 4
        /// The server refuses.
        case refused = 5
    }

    private static let response: UInt16 = 0x8000
    private static let opcode: UInt16 = 0x7800
    private static let recursionDesired: UInt16 = 0x0100
    private static let recursionAvailable: UInt16 = 0x0080
    private static let checkingDisabled: UInt16 = 0x0010
    private static let truncation: UInt16 = 0x0200

    /// The identifier that reply and query share.
    public var identifier: UInt16
    /// The flags as on the wire.
    public var flags: UInt16
    /// How many questions there are.
    public var questionCount: UInt16
    /// How many answers there are.
    public var answerCount: UInt16
    /// How many authority records there are.
    public var authorityCount: UInt16
    /// How many additional records there are.
    public var additionalCount: UInt16

    /// Whether this is a reply.
    public var isResponse: Bool { flags & Self.response != 0 }
    /// Whether the message was cut off and should be asked for over TCP.
    public var isTruncated: Bool { flags & Self.truncation != 0 }
    /// The kind of query; 0 is a standard one.
    public var operation: UInt8 { UInt8((flags & Self.opcode) >> 11) }
    /// What a reply reports; nil if it is not one of those known here.
    public var responseCode: ResponseCode? { ResponseCode(rawValue: flags & 0xF) }

    /// Reads the header of a message.
    ///
    /// - Parameter message: the message, without the length that TCP puts before it.
    /// - Throws: ``ParseError/truncated``.
    public init(_ message: Span<UInt8>) throws(ParseError) {
        guard message.count >= Self.length else { throw .truncated }
        identifier = message.bigEndian16(at: 0)
        flags = message.bigEndian16(at: 2)
        questionCount = message.bigEndian16(at: 4)
        answerCount = message.bigEndian16(at: 6)
        authorityCount = message.bigEndian16(at: 8)
        additionalCount = message.bigEndian16(at: 10)
    }

    /// Makes the header of a reply without records.
    ///
    /// - Parameters:
    ///   - query: the query's header.
    ///   - code: what to report.
    ///   - questionCount: how many questions are repeated.
    public init(replyTo query: DNSHeader, code: ResponseCode, questionCount: UInt16) {
        identifier = query.identifier
        flags =
            Self.response | query.flags & (Self.opcode | Self.recursionDesired | Self.checkingDisabled)
            | Self.recursionAvailable
            | code.rawValue
        self.questionCount = questionCount
        answerCount = 0
        authorityCount = 0
        additionalCount = 0
    }

    /// Appends the header.
    public func write(to writer: inout MessageWriter) {
        writer.append(identifier)
        writer.append(flags)
        writer.append(questionCount)
        writer.append(answerCount)
        writer.append(authorityCount)
        writer.append(additionalCount)
    }
}

/// A question of a DNS message (RFC 1035 §4.1.2).
public struct DNSQuestion: Hashable, Sendable {
    /// The name that is asked about.
    public var name: DNSName
    /// The type of record, 1 for an address, 28 for an IPv6 one.
    public var type: UInt16
    /// The class, 1 for the Internet.
    public var recordClass: UInt16

    /// Makes a question.
    public init(name: DNSName, type: UInt16, recordClass: UInt16 = 1) {
        self.name = name
        self.type = type
        self.recordClass = recordClass
    }

    /// Reads a question.
    ///
    /// - Parameters:
    ///   - message: the whole message.
    ///   - offset: where the question starts, 12 for the first; afterwards where the data behind it starts.
    /// - Throws: as ``DNSName/init(_:at:)``.
    public init(_ message: Span<UInt8>, at offset: inout Int) throws(ParseError) {
        name = try DNSName(message, at: &offset)
        guard message.count - offset >= 4 else { throw .truncated }
        type = message.bigEndian16(at: offset)
        recordClass = message.bigEndian16(at: offset + 2)
        offset += 4
    }

    /// Appends the question, its name without compression.
    public func write(to writer: inout MessageWriter) {
        writer.append(name.wireBytes)
        writer.append(type)
        writer.append(recordClass)
    }
}
