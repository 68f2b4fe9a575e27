// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes
internal import Wire

/// What identifies a flow: the addresses and ports as the namespace sees them.
struct FlowKey: Hashable {
    /// The family, which both addresses belong to.
    var family: AddressFamily
    /// The namespace's address.
    var guest: IPv6Address
    /// The other end's address as the namespace knows it, before translation.
    var remote: IPv6Address
    /// The namespace's port; the identifier for echo.
    var guestPort: UInt16
    /// The other end's port; 0 for echo.
    var remotePort: UInt16
    /// The protocol.
    var transport: IPProtocol

    /// SipHash (the standard library's, keyed at random for each process) over all fields.
    var hash: UInt32 {
        var hasher = Hasher()
        hasher.combine(guest.high)
        hasher.combine(guest.low)
        hasher.combine(remote.high)
        hasher.combine(remote.low)
        hasher.combine(UInt64(guestPort) << 32 | UInt64(remotePort) << 16 | UInt64(transport.rawValue))
        return UInt32(truncatingIfNeeded: hasher.finalize())
    }

    var isIPv4: Bool { family.isIPv4 }
    /// The other end's address as the namespace knows it.
    var remoteAddress: IPAddress { IPAddress(family, remote) }
    /// The greatest payload of a packet behind a TCP header without options.
    var largestSegment: Int {
        0xFFFF - (isIPv4 ? IPv4Header.length : IPv6Header.length) - TCPHeader.length
    }
}

/// A flow of any protocol: plain memory without references, at most 256 bytes (a test checks that).
///
/// TCP sequence numbers name bytes on the namespace's side of the flow. `send` is towards the namespace, as seen from
/// us; `receive` is from it.
struct Flow {
    /// The state of a flow, and what each state permits.
    enum State: UInt8 {
        /// The slot is free; the other fields have no meaning.
        case free
        /// The host socket is connecting; the namespace's SYN has not been answered. Only resets go out.
        case connecting
        /// SYN-ACK sent, the namespace's ACK awaited. Nothing is read from the host socket yet.
        case synReceived
        /// SYN sent to the namespace for an accepted connection; SYN-ACK awaited.
        case synSent
        /// Data in both directions, each until its FIN.
        case established
        /// A datagram flow: UDP or echo.
        case datagram
    }

    /// Conditions beside the state.
    struct Flags: OptionSet {
        let rawValue: UInt32
        /// The namespace has sent FIN; nothing more comes from it.
        static let guestFinished = Flags(rawValue: 1 << 0)
        /// The FIN was passed on (shutdown(2)); all data before it is in the host socket.
        static let shutDown = Flags(rawValue: 1 << 1)
        /// The host socket has ended; FIN follows the last byte.
        static let hostFinished = Flags(rawValue: 1 << 2)
        /// FIN was sent to the namespace.
        static let finSent = Flags(rawValue: 1 << 3)
        /// The namespace has acknowledged our FIN.
        static let finAcknowledged = Flags(rawValue: 1 << 4)
        /// The host socket may have unread data (an edge was seen and no EAGAIN since).
        static let readable = Flags(rawValue: 1 << 5)
        /// An acknowledgement must be sent at the end of the batch.
        static let needsAck = Flags(rawValue: 1 << 6)
        /// The flow is in the queue of flows with work.
        static let queued = Flags(rawValue: 1 << 7)
        /// The namespace offered window scaling.
        static let scales = Flags(rawValue: 1 << 8)
        /// The namespace's window was zero when data was waiting; the deadline is for a probe.
        static let persisting = Flags(rawValue: 1 << 9)
        /// A datagram has been received on the host socket.
        static let answered = Flags(rawValue: 1 << 10)
        /// More than one datagram has gone each way, so that the longer time-out applies.
        static let stream = Flags(rawValue: 1 << 11)
        /// The host's side has opened the flow (a forwarded port).
        static let inbound = Flags(rawValue: 1 << 12)
        /// The kernel has no SO_PEEK_OFF for this socket, so sent bytes are skipped when peeking.
        static let peeksFromStart = Flags(rawValue: 1 << 13)
        /// The flow goes to a DNS server instead of the forward address.
        static let dns = Flags(rawValue: 1 << 14)
        /// The host socket is bound to a device.
        static let pinned = Flags(rawValue: 1 << 15)
        /// The peer has closed its direction; reading continues until the end is reached.
        static let hostClosing = Flags(rawValue: 1 << 16)
        /// The host socket has received urgent data, so a read may stop before it.
        static let urgent = Flags(rawValue: 1 << 17)
        /// The namespace has sent a datagram after it had received one.
        static let returned = Flags(rawValue: 1 << 18)
        /// The host socket has the namespace's port and is counted among those (UDP).
        static let usesGuestPort = Flags(rawValue: 1 << 19)
        /// Opened by a datagram to a multicast group: the host socket is not connected (UDP).
        static let group = Flags(rawValue: 1 << 20)
    }

    var key: FlowKey
    var hash: UInt32
    /// Counts the uses of the slot, modulo 2^24.
    var generation: UInt32
    /// The host socket, or -1.
    var socket: CInt
    var state: State
    var flags: Flags
    /// The next free slot, or the next flow in the queue; -1 ends the list.
    var link: Int32
    /// When anything last happened, in nanoseconds.
    var activity: Int64

    /// The list of ``FlowShares`` that contains the flow, and its neighbours there: indices plus one, 0 for none.
    var list: UInt16
    var older: Int32
    var newer: Int32
    /// The ``activity`` when the flow was put into the list.
    var filed: Int64

    /// The host socket's own address, once known; it is used to find flows when an address goes.
    var local: IPv6Address
    /// The interface that the kernel routed the socket to at the start, or 0.
    var localInterface: UInt32

    // TCP towards the namespace.
    /// The first sequence number not yet acknowledged.
    var sendUnacknowledged: UInt32
    /// The next sequence number to send.
    var sendNext: UInt32
    /// The highest sequence number ever sent, plus one.
    var sendHighest: UInt32
    /// Bytes acknowledged by the namespace that the host socket still holds.
    var discardable: UInt32
    /// The window that the namespace offers, in bytes, from `sendUnacknowledged`.
    var sendWindow: UInt32
    /// The namespace's maximum segment size.
    var mss: UInt16
    /// The namespace's window scale.
    var windowScale: UInt8
    /// Duplicate acknowledgements in a row.
    var duplicates: UInt8
    /// Retransmissions without an answer.
    var retries: UInt8

    // TCP from the namespace.
    /// The next sequence number expected.
    var receiveNext: UInt32
    /// The right edge of the window we have offered.
    var receiveEdge: UInt32
    /// The bytes that the host socket did not accept yet: the first chunk of the backlog, or -1.
    var backlog: Int32
    /// The last chunk of the backlog.
    var backlogEnd: Int32
    /// Bytes in the backlog.
    var backlogCount: UInt32
    /// The number of bytes that the host socket has accepted; it stops at 2^30.
    var passedOn: UInt32
    /// When the host socket last accepted bytes of the backlog, or the namespace sent FIN with a backlog left.
    var lastDrain: Int64

    // Datagrams.
    /// The TTL or hop limit last set on the host socket.
    var ttl: UInt8

    // Figures of the flow that are reported.
    /// When it began, in nanoseconds.
    var opened: Int64
    /// Frames from the namespace; a super-frame is one.
    var framesFromGuest: UInt64
    /// Frames to the namespace.
    var framesToGuest: UInt64
    /// Bytes of payload in the frames from the namespace.
    var bytesFromGuest: UInt64
    /// Bytes of payload in the frames to the namespace, repeated ones included.
    var bytesToGuest: UInt64

    /// Counts a frame from the namespace with its payload in bytes.
    @inline(__always)
    mutating func countFromGuest(_ payload: Int) {
        framesFromGuest &+= 1
        bytesFromGuest &+= UInt64(truncatingIfNeeded: payload)
    }

    /// Counts a frame to the namespace with its payload in bytes.
    @inline(__always)
    mutating func countToGuest(_ payload: Int) {
        framesToGuest &+= 1
        bytesToGuest &+= UInt64(truncatingIfNeeded: payload)
    }

    /// How long a connection of which one side has sent FIN may be silent and still counts as carrying data.
    static let closingPatience: Int64 = 2_000_000_000

    /// Whether this is an established TCP connection that can still carry data, which keeps the namespace's address.
    ///
    /// No other flow keeps one: no datagram flow, no handshake, no connection that both sides have ended. A connection
    /// that one side has ended counts as long as the other side sends data.
    func canCarryData(at now: Int64) -> Bool {
        guard key.transport == .tcp, state == .established else { return false }
        let ends = flags.intersection([.guestFinished, .hostFinished])
        if ends.isEmpty { return true }
        return ends != [.guestFinished, .hostFinished] && now &- activity < Self.closingPatience
    }

    init(key: FlowKey, hash: UInt32, generation: UInt32) {
        self.key = key
        self.hash = hash
        self.generation = generation
        socket = -1
        state = .free
        flags = []
        link = -1
        activity = 0
        list = 0
        older = 0
        newer = 0
        filed = 0
        local = .unspecified
        localInterface = 0
        sendUnacknowledged = 0
        sendNext = 0
        sendHighest = 0
        discardable = 0
        sendWindow = 0
        mss = 536
        windowScale = 0
        duplicates = 0
        retries = 0
        receiveNext = 0
        receiveEdge = 0
        backlog = -1
        backlogEnd = -1
        backlogCount = 0
        passedOn = 0
        lastDrain = 0
        ttl = 64
        opened = 0
        framesFromGuest = 0
        framesToGuest = 0
        bytesFromGuest = 0
        bytesToGuest = 0
    }
}
