// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// TCP's state machine consists of functions on one flow and one event. They change the flow's record and return what to
// do, as `TCPSteps`. They make no system call and use no clock, socket or frame: the time and the facts of the event
// are arguments. So a test can run every order of segments, time-outs and socket results.
//
//   event                                                      function (file)
//   the namespace opens a connection, the host opens one       beginOutbound, beginInbound (TCPHandshakeSteps)
//   the host socket is connected, or cannot be                 hostConnected, hostRefused (TCPHandshakeSteps)
//   a segment during the handshake                             receiveInHandshake (TCPHandshakeSteps)
//   a segment afterwards                                       receive (TCPReceiveSteps)
//   payload was handed on, before a FIN or not                 payloadPassedOn, finReached (TCPReceiveSteps)
//   the host socket took some of the backlog                   backlogDrained (TCPReceiveSteps)
//   the host socket is ready, gave data, has ended, has none   hostReady, hostDataSent, hostEnded, hostHasNothing
//                                                              (TCPSendSteps)
//   a deadline has passed                                      deadlinePassed (TCPTimerSteps)
//   the host socket failed, the flow is evicted or withdrawn   hostFailed, abandoned, withdrawn (TCPEndSteps)
//
// The data path carries the steps out (`DataPath.carryOut`), and does what concerns several flows or memory: gathering
// payload, the backlog, reading and writing. The order is always that of `TCPSteps.Actions`.

internal import NetworkTypes
internal import Wire

/// The parts of a segment from the namespace that the state machine needs.
struct TCPSegment {
    var flags: TCPFlags
    /// The window field, not scaled.
    var window: UInt16
    var sequence: UInt32
    var acknowledgment: UInt32
    /// Bytes of payload.
    var payloadLength: Int
}

extension TCPSegment {
    @inline(__always)
    init(_ summary: FrameSummary) {
        flags = summary.tcpFlags
        window = summary.tcpWindow
        sequence = summary.tcpSequence
        acknowledgment = summary.tcpAcknowledgment
        payloadLength = summary.payloadLength
    }
}

/// What to do after an event: plain values, returned in registers.
struct TCPSteps {
    /// The actions, in the order in which they are carried out.
    struct Actions: OptionSet {
        let rawValue: UInt32
        /// Pass on what was gathered for the flow.
        ///
        /// If that ends the flow, nothing else is done.
        static let flush = Actions(rawValue: 1 << 0)
        /// Gather the payload's bytes from ``TCPSteps/payloadOffset`` on, ``TCPSteps/payloadCount`` of them.
        static let gather = Actions(rawValue: 1 << 1)
        /// A FIN follows the payload: pass on what was gathered, then call ``Flow/finReached(after:at:)``.
        static let fin = Actions(rawValue: 1 << 2)
        /// Count the flow as a connection, because the handshake is complete.
        static let countAsConnection = Actions(rawValue: 1 << 3)
        /// Check whether to bound the host socket's queue.
        static let boundQueue = Actions(rawValue: 1 << 4)
        /// Answer the segment like one that belongs to no flow (RFC 9293 §3.10.7.1).
        static let refuse = Actions(rawValue: 1 << 5)
        /// Shut down the host socket's sending side: the namespace has sent FIN, and the socket has all data before it.
        static let shutDown = Actions(rawValue: 1 << 6)
        /// Send a segment without payload: ``TCPSteps/segment`` at ``TCPSteps/sequence``.
        static let send = Actions(rawValue: 1 << 7)
        /// Discard what the namespace has acknowledged from the host socket.
        static let discard = Actions(rawValue: 1 << 8)
        /// Read from the host socket's first byte again; what the namespace has acknowledged is dropped first.
        static let rewind = Actions(rawValue: 1 << 9)
        /// Read ``TCPSteps/payloadCount`` bytes behind those in flight, and send them.
        static let read = Actions(rawValue: 1 << 10)
        /// Count a retransmission, and send from the host socket what the window allows, which sets the deadline.
        static let retransmit = Actions(rawValue: 1 << 11)
        /// Close the host socket and remove the flow; nothing else is done.
        static let close = Actions(rawValue: 1 << 12)
        /// Reset the host socket's connection and remove the flow; nothing else is done.
        static let abort = Actions(rawValue: 1 << 13)
        /// Set the deadline to ``TCPSteps/delay`` from now.
        static let wait = Actions(rawValue: 1 << 14)
        /// Put the flow into the queue of flows with work at the end of the batch.
        static let enqueue = Actions(rawValue: 1 << 15)

        /// The actions of most segments; all others are off the fast path.
        static let common: Actions = [.gather, .wait, .enqueue]
    }

    var actions: Actions = []
    /// The sequence number of the segment to send.
    var sequence: UInt32 = 0
    /// The number of bytes at the payload's start that are known already.
    var payloadOffset: UInt32 = 0
    /// The number of bytes to gather or to read.
    var payloadCount: UInt32 = 0
    /// The number of milliseconds until the deadline.
    var delay: UInt32 = 0
    /// The flags of the segment to send.
    var segment: TCPFlags = []
    /// The reason for a drop, which is counted.
    var drop: FlowDropReason?
    /// The ICMP error to send.
    var unreachable: Unreachable?

    @inline(__always)
    init() {}

    /// Sends a segment without payload.
    @inline(__always)
    mutating func send(_ flags: TCPFlags, at sequence: UInt32) {
        actions.insert(.send)
        segment = flags
        self.sequence = sequence
    }

    /// Sets the deadline, in milliseconds from now.
    @inline(__always)
    mutating func wait(_ milliseconds: Int64) {
        actions.insert(.wait)
        delay = UInt32(truncatingIfNeeded: milliseconds)
    }
}

/// The windows that we offer.
enum TCPWindow {
    /// The greatest window: enough for a tap, and the bound of a flow's backlog.
    static let most: UInt32 = 1 << 20
    /// Their shift.
    static let scale: UInt8 = 7
}

/// Time-outs of TCP towards the namespace, in milliseconds, and numbers of repetitions.
enum TCPTime {
    /// The first retransmission of data.
    static let retransmission: Int64 = 200
    /// The first repetition of a SYN or SYN-ACK; each further one waits twice as long.
    static let handshake: Int64 = 1000
    /// The longest interval between retransmissions.
    static let longest: Int64 = 30_000
    /// The number of retransmissions before the flow is ended.
    static let retries: UInt8 = 12
    /// The number of repetitions of a SYN or SYN-ACK before the handshake is ended: 63 s after the first, as in Linux
    /// (tcp_synack_retries in tcp(7)).
    static let handshakeRetries: UInt8 = 5
    /// The time after which a flow is ended whose program has ended and whose server has read nothing of the backlog.
    static let unreadEnd: Int64 = 60_000
    /// The time without a segment from the namespace after which it is probed.
    static let keepalive: Int64 = 2 * 3600 * 1000
    /// The interval of such probes (tcp_keepalive_intvl in tcp(7)).
    static let keepaliveInterval: Int64 = 75_000
    /// After this number of window probes, the interval is the longest, and only silence counts.
    static let windowRetries: UInt8 = 8
    /// The time after which a namespace is given up that answers no window probe: about as long as data is repeated.
    static let silence: Int64 = 200_000

    /// The interval before the next retransmission or window probe (RFC 6298 §5.5).
    @inline(__always)
    static func backOff(_ retries: UInt8) -> Int64 {
        min(retransmission << Int64(min(retries, 10)), longest)
    }
}
