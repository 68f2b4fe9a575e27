// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The addresses in a DNS answer: its question and the A, AAAA and CNAME records of its answer section.
///
/// Other records are skipped (RFC 3597 §2). The authority and additional sections are not read, because nothing there
/// answers the question.
public struct DNSAnswer: Hashable, Sendable {
    /// A record of the answer section.
    public struct Record: Hashable, Sendable {
        /// What a record holds.
        public enum Content: Hashable, Sendable {
            /// An address (RFC 1035 §3.4.1, RFC 3596 §2.2).
            case address(IPAddress)
            /// The name that the owner stands for (RFC 1035 §3.3.1).
            case alias(DNSName)
        }

        /// The name that the record belongs to.
        public var owner: DNSName
        /// How long it is valid, in seconds; 0 if the highest bit is set (RFC 2181 §8).
        public var timeToLive: UInt32
        /// What it holds.
        public var content: Content

        /// Makes a record.
        ///
        /// - Parameters:
        ///   - owner: the name that the record belongs to.
        ///   - timeToLive: how long it is valid, in seconds.
        ///   - content: what it holds.
        public init(owner: DNSName, timeToLive: UInt32, content: Content) {
            self.owner = owner
            self.timeToLive = timeToLive
            self.content = content
        }
    }

    /// The greatest number of records; further ones are skipped.
    public static let maximumCount = 1024

    /// The header.
    public let header: DNSHeader
    /// The question.
    public let question: DNSQuestion
    /// The A, AAAA and CNAME records in order, of the class Internet.
    public let records: [Record]

    /// Reads an answer.
    ///
    /// - Parameter message: the message, without the length that TCP puts before it.
    /// - Throws: ParseError/badType for a query, and for anything but one question; ParseError/badLength for an
    ///   address or a name that does not fill its record; otherwise as DNSName/init(_:at:). A message with the
    ///   truncation bit may end anywhere between records.
    public init(_ message: Span<UInt8>) throws(ParseError) {
        header = try DNSHeader(message)
        guard header.isResponse, header.operation == 0, header.questionCount == 1 else { throw .badType }
        var offset = DNSHeader.length
        question = try DNSQuestion(message, at: &offset)
        var records: [Record] = []
        for _ in 0..<header.answerCount {
            if header.isTruncated, offset == message.count { break }
            if let record = try Self.record(message, at: &offset), records.count < Self.maximumCount {
                records.append(record)
            }
        }
        self.records = records
    }

    /// Reads a record (RFC 1035 §4.1.3); nil if it is of another type.
    private static func record(_ message: Span<UInt8>, at offset: inout Int) throws(ParseError) -> Record? {
        let owner = try DNSName(message, at: &offset)
        guard message.count - offset >= 10 else { throw .truncated }
        let type = message.bigEndian16(at: offset)
        let recordClass = message.bigEndian16(at: offset + 2)
        let time = message.bigEndian32(at: offset + 4)
        let length = Int(message.bigEndian16(at: offset + 8))
        let start = offset + 10
        guard message.count - start >= length else { throw .truncated }
        offset = start + length
        guard recordClass == 1 else { return nil }
        let content: Record.Content
        switch type {
        case 1:
            guard length == 4 else { throw .badLength }
            content = .address(.v4(message.ipv4Address(at: start)))
        case 28:
            guard length == 16 else { throw .badLength }
            content = .address(IPAddress(unmapping: message.ipv6Address(at: start)))
        case 5:
            var end = start
            let name = try DNSName(message, at: &end)
            guard end == offset else { throw .badLength }
            content = .alias(name)
        default: return nil
        }
        return Record(owner: owner, timeToLive: time >> 31 == 0 ? time : 0, content: content)
    }
}
