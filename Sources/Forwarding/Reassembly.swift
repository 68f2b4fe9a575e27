// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A namespace whose MTU is small sends large datagrams in fragments, which no host socket takes. They are put together
// here (RFC 791 §3.2, RFC 8200 §4.5) into whole frames that go through the data path as if they had come from the tap.
// Memory is bounded: `places` datagrams of 64 KiB at once, the oldest going first; a datagram whose fragments overlap is
// dropped whole (RFC 5722); one that is not complete within `patience` goes when its place is wanted or a fragment of
// the same name arrives. Fragments are not the hot path, but they do not allocate for each packet either.

internal import LinuxSystem
internal import NetworkTypes
internal import Wire

/// Datagrams whose fragments are being gathered.
@safe
struct Reassembly: ~Copyable {
    static let places = 16
    static let patience: Int64 = 15_000_000_000
    /// The most fragments that a datagram may come in.
    static let pieces = 96
    /// Where the payload starts in a place: behind room for Ethernet and IP headers.
    private static let headroom = 64
    private static let placeSize = 65536 + headroom

    /// One fragment.
    struct Fragment {
        var source: IPv6Address
        var destination: IPv6Address
        var ipProtocol: IPProtocol
        var identification: UInt32
        var offset: Int
        var isLast: Bool
        var trafficClass: UInt8
        var hopLimit: UInt8
    }

    private struct Datagram {
        var source: IPv6Address
        var destination: IPv6Address
        var ipProtocol: IPProtocol
        var identification: UInt32
        var started: Int64
        var received = 0
        /// The whole length, once the last fragment is there; -1 before.
        var total = -1
        var ranges: [Range<Int>] = []
    }

    /// What came of a fragment.
    @safe
    enum Outcome {
        /// More are awaited.
        case waiting
        /// It contradicts others or the limits: the datagram is given up.
        case refused
        /// The whole frame, in this place until the next call.
        case whole(frame: UnsafeMutableRawPointer, count: Int)
    }

    private var datagrams: [Datagram?] = .init(repeating: nil, count: places)
    private let memory: UnsafeMutableRawPointer

    init() {
        unsafe memory = .allocate(byteCount: Self.places * Self.placeSize, alignment: 4096)
    }

    deinit {
        unsafe memory.deallocate()
    }

    /// Takes the payload of a fragment.
    mutating func take(
        _ fragment: Fragment, payload: Span<UInt8>, macs: (destination: MACAddress, source: MACAddress), now: Int64
    ) -> Outcome {
        let end = fragment.offset + payload.count
        let most = DataPath.largestDatagram(isIPv4: fragment.source.isIPv4Mapped) + UDPHeader.length
        guard payload.count > 0, end <= most, fragment.isLast || payload.count % 8 == 0 else { return .refused }
        let place = self.place(for: fragment, now: now)
        // Taken out, so that appending to its ranges copies nothing.
        guard var datagram = datagrams[place].take() else { return .refused }
        let range = fragment.offset..<end
        let contradicts =
            datagram.ranges.contains { $0.overlaps(range) } || datagram.ranges.count == Self.pieces
            || (fragment.isLast && datagram.ranges.contains { $0.upperBound > end })
            || (datagram.total >= 0 && (fragment.isLast || end > datagram.total))
        if contradicts {
            // The same fragment twice is a retransmission, anything else an attack or a mess.
            guard datagram.ranges.contains(range) else { return .refused }
            datagrams[place] = datagram
            return .waiting
        }
        let start = unsafe memory + place * Self.placeSize + Self.headroom
        var target = unsafe MutableSpan(_unsafeStart: start.assumingMemoryBound(to: UInt8.self), count: 65536)
        target.store(payload, at: fragment.offset)
        datagram.ranges.append(range)
        datagram.received += payload.count
        if fragment.isLast { datagram.total = end }
        guard datagram.received == datagram.total else {
            datagrams[place] = datagram
            return .waiting
        }
        let ip = IPHeader(
            source: fragment.source, destination: fragment.destination, ipProtocol: fragment.ipProtocol,
            hopLimit: fragment.hopLimit, trafficClass: fragment.trafficClass)
        let headers = EthernetHeader.length + ip.length
        let frame = unsafe start - headers
        var span = unsafe MutableSpan(_unsafeStart: frame.assumingMemoryBound(to: UInt8.self), count: headers)
        _ = ip.writeFrame(into: &span, to: macs.destination, from: macs.source, payloadLength: datagram.total)
        return unsafe .whole(frame: frame, count: headers + datagram.total)
    }

    /// The place of the datagram that a fragment belongs to, or one for a new datagram.
    private mutating func place(for fragment: Fragment, now: Int64) -> Int {
        var oldest = 0
        for index in 0..<Self.places {
            guard let datagram = datagrams[index] else {
                if datagrams[oldest] != nil { oldest = index }
                continue
            }
            if datagram.identification == fragment.identification && datagram.source == fragment.source
                && datagram.destination == fragment.destination && datagram.ipProtocol == fragment.ipProtocol
                && now - datagram.started < Self.patience
            {
                return index
            }
            if let candidate = datagrams[oldest], datagram.started < candidate.started { oldest = index }
        }
        datagrams[oldest] = Datagram(
            source: fragment.source, destination: fragment.destination, ipProtocol: fragment.ipProtocol,
            identification: fragment.identification, started: now)
        return oldest
    }
}

extension DataPath {
    /// A fragment from the namespace.
    mutating func receiveFragment(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        let bytes = unsafe Self.bytes(frame, count)
        let word: UInt16
        let identification: UInt32
        let offset: Int
        let isLast: Bool
        if summary.isIPv4 {
            word = bytes.bigEndian16(at: EthernetHeader.length + 6)
            identification = UInt32(bytes.bigEndian16(at: EthernetHeader.length + 4))
            offset = Int(word & 0x1FFF) * 8
            isLast = word & IPv4Header.moreFragments == 0
        } else {
            word = bytes.bigEndian16(at: summary.transportOffset - 6)
            identification = bytes.bigEndian32(at: summary.transportOffset - 4)
            offset = Int(word & 0xFFF8)
            isLast = word & 1 == 0
        }
        let fragment = Reassembly.Fragment(
            source: summary.source, destination: summary.destination, ipProtocol: summary.ipProtocol,
            identification: identification, offset: offset, isLast: isLast, trafficClass: summary.trafficClass,
            hopLimit: summary.hopLimit)
        let end = summary.transportOffset + summary.transportLength
        let outcome = reassembly.take(
            fragment, payload: bytes.extracting(summary.transportOffset..<end),
            macs: (summary.destinationMAC, summary.sourceMAC), now: now.nanoseconds)
        switch outcome {
        case .waiting: break
        case .refused: counters.drop(FlowDropReason.fragment)
        case .whole(let whole, let length):
            // What was gathered before points elsewhere and stays in order; what this adds points into the place.
            flushGathered()
            unsafe receiveFrame(whole, count: length, header: VirtioNetHeader())
            flushGathered()
        }
    }
}
