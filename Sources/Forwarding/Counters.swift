// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Wire

/// Why a well-formed frame, or a new flow, was dropped.
///
/// Each reason has a counter; the counters of malformed frames are those of Wire.
public enum FlowDropReason: Int, Sendable, CaseIterable {
    /// An unspecified source where no service accepts it, a multicast hardware source, or a destination that the
    /// protocol may not have.
    ///
    /// The classification refuses addresses that cannot occur on a link (``Wire/DropReason``).
    case martian
    /// A datagram to 255.255.255.255 that no service accepts (tapas(1), "Broadcasts and groups").
    case broadcast
    /// A super-frame of far more datagrams than any kernel makes.
    case tooManySegments
    /// The family is not in use.
    case familyOff
    /// An IP protocol that we do not translate.
    case unknownProtocol
    /// An IP fragment that could not be reassembled.
    case fragment
    /// `--no-tcp`, `--no-udp` or `--no-icmp`.
    case protocolOff
    /// The host has no address for `--map-guest-addr`.
    case noHostAddress
    /// No interface that a link-local destination could belong to.
    case noScope
    /// A host socket could not be made.
    case socket
    /// The flow table was full and no flow could be evicted.
    case tableFull
    /// A segment for a flow that does not exist.
    case unknownFlow
    /// A segment beyond a gap; the namespace sends it again.
    case outOfOrder
    /// A segment outside the window.
    case outOfWindow
    /// The backlog's memory was exhausted.
    case backlogFull
    /// The kernel did not accept a datagram.
    case notSent
    /// The link did not accept a frame.
    case linkRefused
    /// A source that is the host's, the gateway's or tapas's own address, and not the namespace's.
    case spoofedSource
    /// A source that no address source gave, with `--strict-addresses`.
    case strangeSource
    /// Flows were opened faster than possible, most of them by the sender of this one.
    case flood
    /// A flow that the rules on what may leave deny.
    case denied
    /// A flow beyond `--max-flows` or `--max-flow-rate`.
    case limited
}

/// The data path's counters.
public struct Counters: Sendable {
    /// Frames received from the guest.
    public var framesIn: UInt64 = 0
    /// Bytes received from the guest.
    public var bytesIn: UInt64 = 0
    /// Frames sent to the guest.
    public var framesOut: UInt64 = 0
    /// Bytes sent to the guest.
    public var bytesOut: UInt64 = 0
    /// Flows ever opened.
    public var flowsOpened: UInt64 = 0
    /// Flows that were evicted.
    public var flowsEvicted: UInt64 = 0
    /// Segments that were sent to the namespace again.
    public var retransmissions: UInt64 = 0
    /// Bytes that went through a backlog.
    public var backlogBytes: UInt64 = 0
    /// How often the link was ready.
    public var linkEvents: UInt64 = 0
    /// How often host sockets of TCP flows were ready.
    public var tcpEvents: UInt64 = 0
    /// How often host sockets of UDP flows were ready.
    public var udpEvents: UInt64 = 0
    /// How often host sockets of echo flows were ready.
    public var echoEvents: UInt64 = 0
    private var drops: InlineArray<32, UInt64> = .init(repeating: 0)
    private var malformed: InlineArray<64, UInt64> = .init(repeating: 0)

    init() {}

    /// The number of drops for a reason.
    public subscript(reason: FlowDropReason) -> UInt64 {
        drops[reason.rawValue]
    }

    /// The number of frames that the classification refused for a reason.
    subscript(reason: Wire.DropReason) -> UInt64 {
        malformed[Int(reason.rawValue) & 63]
    }

    @inline(__always)
    mutating func drop(_ reason: FlowDropReason) {
        drops[reason.rawValue] &+= 1
    }

    @inline(__always)
    mutating func drop(_ reason: Wire.DropReason) {
        malformed[Int(reason.rawValue) & 63] &+= 1
    }

    /// The number of drops by reason; the names and the order of the reasons never change.
    ///
    /// The names are part of the control protocol. Those of malformed frames begin with `malformed_`.
    public var dropsByReason: [(reason: String, count: UInt64)] {
        FlowDropReason.allCases.map { ("\($0)".inSnakeCase, self[$0]) }
            + Wire.DropReason.allCases.map { ("malformed_" + "\($0)".inSnakeCase, self[$0]) }
    }

    /// All counters that are not zero, with their names.
    public var summary: [(name: String, value: UInt64)] {
        let totals: [(name: String, value: UInt64)] = [
            ("frames in", framesIn), ("bytes in", bytesIn), ("frames out", framesOut), ("bytes out", bytesOut),
            ("flows opened", flowsOpened), ("flows evicted", flowsEvicted), ("retransmissions", retransmissions),
            ("backlog bytes", backlogBytes),
        ]
        let drops = FlowDropReason.allCases.map { (name: "dropped: \($0)", value: self[$0]) }
        let frames = Wire.DropReason.allCases.map { reason in
            (name: "malformed: \(reason)", value: malformed[Int(reason.rawValue) & 63])
        }
        return (totals + drops + frames).filter { $0.value > 0 }
    }
}

extension String {
    /// `tooManySegments` as `too_many_segments`.
    fileprivate var inSnakeCase: String {
        var words = ""
        for character in self {
            if character.isUppercase { words += "_" }
            words += character.lowercased()
        }
        return words
    }
}
