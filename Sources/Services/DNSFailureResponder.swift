// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import Wire

/// Answers DNS queries at once that cannot be forwarded, so that no program waits for a time-out.
public enum DNSFailureResponder {
    /// The greatest length of a message with one question: header, name, type and class, in bytes.
    public static let maximumLength = DNSHeader.length + DNSName.maximumLength + 4

    /// Makes the SERVFAIL message for a query, with its question if that can be read.
    ///
    /// - Parameter query: the query's message, without the length that TCP puts before it.
    /// - Returns: The message, or nil if the input is not a query.
    public static func serverFailure(for query: Span<UInt8>) -> [UInt8]? {
        failure(for: query, code: .serverFailure)
    }

    /// As ``serverFailure(for:)``, with another code.
    public static func failure(for query: Span<UInt8>, code: DNSHeader.ResponseCode) -> [UInt8]? {
        guard let header = try? DNSHeader(query), !header.isResponse else { return nil }
        var offset = DNSHeader.length
        let question = header.questionCount == 1 ? try? DNSQuestion(query, at: &offset) : nil
        let code: DNSHeader.ResponseCode = question == nil && header.operation == 0 ? .formatError : code
        var writer = MessageWriter()
        DNSHeader(replyTo: header, code: code, questionCount: question == nil ? 0 : 1).write(to: &writer)
        question?.write(to: &writer)
        return writer.bytes
    }

    /// Answers a query in a UDP frame with a failure.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary, of kind ``FrameSummary/Kind/udp``.
    ///   - rules: the translation rules.
    ///   - code: the failure.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if the frame has no query or the reply does not fit.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, rules: TranslationRules,
        code: DNSHeader.ResponseCode = .serverFailure, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        guard summary.kind == .udp, summary.payloadLength <= frame.count - summary.payloadOffset else { return 0 }
        let end = summary.payloadOffset + summary.payloadLength
        guard let message = failure(for: frame.extracting(summary.payloadOffset..<end), code: code) else { return 0 }
        return UDPHeader.writeFrame(
            message.span, from: summary.destinationPort, to: summary.sourcePort,
            ip: IPHeader(summary.family, source: summary.destination, destination: summary.source, ipProtocol: .udp),
            to: summary.sourceMAC, from: rules.gatewayMAC, into: &reply)
    }
}
