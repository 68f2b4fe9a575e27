// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A namespace with a small MTU sends large datagrams in fragments, which host sockets cannot send. They are reassembled
// here (RFC 791 §3.2, RFC 8200 §4.5) into whole frames that go through the data path as if they had come from the tap.
// The family is that of the fragments' frames and is never derived from the addresses. Memory is bounded: there are
// `places` datagrams of 64 KiB at most, of which the oldest is dropped first. A datagram whose fragments overlap is
// dropped (RFC 5722). One that is not complete within `patience` is dropped when its place is needed or a fragment with
// the same identification arrives. Fragments are rare, but they do not allocate memory for each packet either.

package import NetworkTypes

/// Datagrams whose fragments are being gathered.
@safe
package struct Reassembly: ~Copyable {
    package static let places = 16
    package static let patience: Int64 = 15_000_000_000
    /// The greatest number of fragments of a datagram.
    package static let pieces = 96
    /// Where the payload starts in a place: behind room for Ethernet and IP headers.
    private static let headroom = 64
    private static let placeSize = 65536 + headroom

    /// One fragment.
    package struct Fragment {
        package var family: AddressFamily
        package var source: IPv6Address
        package var destination: IPv6Address
        package var ipProtocol: IPProtocol
        package var identification: UInt32
        package var offset: Int
        package var isLast: Bool
        package var trafficClass: UInt8
        package var hopLimit: UInt8

        /// Makes a fragment.
        package init(
            family: AddressFamily, source: IPv6Address, destination: IPv6Address, ipProtocol: IPProtocol,
            identification: UInt32, offset: Int, isLast: Bool, trafficClass: UInt8, hopLimit: UInt8
        ) {
            self.family = family
            self.source = source
            self.destination = destination
            self.ipProtocol = ipProtocol
            self.identification = identification
            self.offset = offset
            self.isLast = isLast
            self.trafficClass = trafficClass
            self.hopLimit = hopLimit
        }

        /// Reads the fields of fragmentation in a frame that was classified as ``FrameSummary/Kind/fragment``.
        package init(_ summary: FrameSummary, in frame: Span<UInt8>) {
            family = summary.family
            source = summary.source
            destination = summary.destination
            ipProtocol = summary.ipProtocol
            trafficClass = summary.trafficClass
            hopLimit = summary.hopLimit
            switch summary.family {
            case .v4:
                let word = frame.bigEndian16(at: EthernetHeader.length + IPv4Header.Offset.fragment)
                identification = UInt32(frame.bigEndian16(at: EthernetHeader.length + IPv4Header.Offset.identification))
                offset = Int(word & 0x1FFF) * 8
                isLast = word & IPv4Header.moreFragments == 0
            case .v6:
                // The fragment header's eight bytes lie right before its payload.
                let word = frame.bigEndian16(at: summary.transportOffset - 6)
                identification = frame.bigEndian32(at: summary.transportOffset - 4)
                offset = Int(word & 0xFFF8)
                isLast = word & 1 == 0
            }
        }
    }

    private struct Datagram {
        var family: AddressFamily
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

    /// The result of adding a fragment.
    @safe
    package enum Outcome {
        /// More are awaited.
        case waiting
        /// The fragment contradicts others or the limits, so the datagram is dropped.
        case refused
        /// The whole frame, in this place until the next call.
        case whole(frame: UnsafeMutableRawPointer, count: Int)
    }

    private var datagrams: [Datagram?] = .init(repeating: nil, count: places)
    private let memory: UnsafeMutableRawPointer

    package init() {
        unsafe memory = .allocate(byteCount: Self.places * Self.placeSize, alignment: 4096)
    }

    deinit {
        unsafe memory.deallocate()
    }

    /// Takes the payload of a fragment.
    package mutating func take(
        _ fragment: Fragment, payload: Span<UInt8>, macs: (destination: MACAddress, source: MACAddress), now: Int64
    ) -> Outcome {
        let end = fragment.offset + payload.count
        let most = IPHeader.largestPayload(fragment.family)
        guard payload.count > 0, end <= most, fragment.isLast || payload.count % 8 == 0 else { return .refused }
        let place = self.place(for: fragment, now: now)
        // The datagram is moved out, so that appending to its ranges copies nothing.
        guard var datagram = datagrams[place].take() else { return .refused }
        let range = fragment.offset..<end
        let contradicts =
            datagram.ranges.contains { $0.overlaps(range) } || datagram.ranges.count == Self.pieces
            || (fragment.isLast && datagram.ranges.contains { $0.upperBound > end })
            || (datagram.total >= 0 && (fragment.isLast || end > datagram.total))
        if contradicts {
            // An equal fragment is a retransmission; any other overlap is an error or an attack.
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
            fragment.family, source: fragment.source, destination: fragment.destination,
            ipProtocol: fragment.ipProtocol,
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
            if datagram.identification == fragment.identification && datagram.family == fragment.family
                && datagram.source == fragment.source && datagram.destination == fragment.destination
                && datagram.ipProtocol == fragment.ipProtocol
                && now - datagram.started < Self.patience
            {
                return index
            }
            if let candidate = datagrams[oldest], datagram.started < candidate.started { oldest = index }
        }
        datagrams[oldest] = Datagram(
            family: fragment.family, source: fragment.source, destination: fragment.destination,
            ipProtocol: fragment.ipProtocol,
            identification: fragment.identification, started: now)
        return oldest
    }
}
