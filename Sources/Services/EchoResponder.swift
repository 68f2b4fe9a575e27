// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
import NetworkTypes
public import Wire

/// Answers ICMP echo requests to our addresses; the caller decides which these are.
public enum EchoResponder {
    /// Turns a request into its reply.
    ///
    /// - Parameters:
    ///   - frame: the frame from the namespace.
    ///   - summary: its summary; the caller has verified the checksum.
    ///   - rules: the translation rules.
    ///   - reply: where to write the reply's frame.
    /// - Returns: the length of the reply's frame in bytes, or 0 if the frame is not a request to a single address or
    ///   the reply does not fit.
    public static func reply(
        to frame: Span<UInt8>, summary: FrameSummary, rules: TranslationRules, into reply: inout MutableSpan<UInt8>
    ) -> Int {
        let type: UInt8
        switch (summary.kind, summary.icmpType) {
        case (.icmpv4, ICMPv4Type.echoRequest): type = ICMPv4Type.echoReply
        case (.icmpv6, ICMPv6Type.echoRequest): type = ICMPv6Type.echoReply
        default: return 0
        }
        let destination = IPAddress(summary.family, summary.destination)
        guard summary.icmpCode == 0, !destination.isMulticast, !destination.isBroadcast, !summary.hasUnspecifiedSource,
            summary.payloadLength <= frame.count - summary.payloadOffset
        else { return 0 }
        let header = ICMPHeader(type: type, identifier: summary.icmpIdentifier, sequence: summary.icmpSequence)
        return header.writeFrame(
            into: &reply,
            body: frame.extracting(summary.payloadOffset..<summary.payloadOffset + summary.payloadLength),
            ip: IPHeader(
                summary.family, source: summary.destination, destination: summary.source,
                ipProtocol: summary.ipProtocol, trafficClass: summary.trafficClass),
            to: summary.sourceMAC, from: rules.gatewayMAC)
    }
}
