// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Frames to the guest. There are two ways to make one, and every protocol uses one of them:
//
// - `sendPacket` puts all headers in front of a payload that is in memory with room before it: TCP segments and
//   datagrams. Only this function decides who completes the checksum and who cuts a super-frame.
// - `sendFrame` has a whole frame written into the scratch memory: messages of services, ICMP and the DNS relay,
//   solicited or not.
//
// Both end in `transmit`, which counts the frame, passes it to the link and records it.

internal import CLinux
internal import Glibc
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import Wire

extension DataPath {
    /// The payload of a packet: bytes with ``DataPath/Size/headroom`` bytes free before them, and optionally more bytes
    /// elsewhere.
    @safe
    struct Payload {
        /// Where the bytes begin.
        let start: UnsafeMutableRawPointer
        /// The number of these bytes.
        let count: Int
        /// The number of further pieces, which `peekVectors` lists from its second entry on.
        var furtherPieces = 0
        /// The number of bytes in those.
        var furtherBytes = 0
        /// How the receiver cuts the packet, if it is a super-frame.
        var segmentation = VirtioNetHeader.Segmentation.none
        /// The payload of each packet that it is cut into, in bytes.
        var segmentSize = 0

        @inline(__always)
        init(_ start: UnsafeMutableRawPointer, count: Int) {
            unsafe self.start = start
            self.count = count
        }
    }

    /// Sends a packet: writes its headers in front of its payload.
    ///
    /// - Parameters:
    ///   - ip: the IP header.
    ///   - headerLength: the length of the transport header in bytes.
    ///   - payload: the bytes behind the header. A super-frame, or a payload in pieces, needs a link with that offload.
    ///   - destination: the hardware address of the receiver; nil for the guest's.
    ///   - writeHeader: writes the transport header at an offset.
    @inline(__always)
    mutating func sendPacket(
        _ ip: IPHeader, headerLength: Int, _ payload: Payload, to destination: MACAddress? = nil,
        _ writeHeader: (inout MutableSpan<UInt8>, Int) -> UnfinishedChecksum
    ) {
        let headers = EthernetHeader.length + ip.length + headerLength
        let frame = unsafe payload.start - headers
        var span = unsafe MutableSpan(
            _unsafeStart: frame.assumingMemoryBound(to: UInt8.self), count: headers + payload.count)
        let offset = ip.writeFrame(
            into: &span, to: destination ?? guestMAC, from: gatewayMAC,
            payloadLength: headerLength + payload.count + payload.furtherBytes)
        let checksum = writeHeader(&span, offset)
        var header = VirtioNetHeader()
        if link.capabilities.contains(.checksum) {
            header = checksum.writePartial(in: &span)
            if payload.segmentation != .none {
                header.segment(payload.segmentation, size: payload.segmentSize, headerLength: headers)
            }
        } else {
            checksum.finish(in: &span, payloadLength: payload.count)
        }
        if payload.furtherPieces == 0 {
            unsafe transmit(frame, count: headers + payload.count, header: header)
        } else {
            unsafe peekVectors[0] = unsafe iovec(iov_base: frame, iov_len: headers + payload.count)
            transmitPieces(
                payload.furtherPieces + 1, count: headers + payload.count + payload.furtherBytes, header: header)
        }
    }

    /// Sends the frame that `write` makes from the rules in force, with complete checksums: an answer or an unsolicited
    /// message.
    ///
    /// - Parameter write: writes the frame and returns its length in bytes; 0 if there is none to send.
    mutating func sendFrame(_ write: (inout MutableSpan<UInt8>, TranslationRules) -> Int) {
        let start = unsafe scratch + Size.headroom
        var span = unsafe MutableSpan(
            _unsafeStart: start.assumingMemoryBound(to: UInt8.self), count: Size.segment - Size.headroom)
        let length = write(&span, translator.rules)
        if length > 0 { unsafe transmit(start, count: length, header: VirtioNetHeader()) }
    }

    /// Sends the frame that `write` makes with the services.
    ///
    /// - Parameter write: writes the frame and returns its length in bytes; 0 if there is none to send.
    /// - Returns: Whether there was one.
    @discardableResult
    mutating func sendFrame(of write: (inout GuestServices, inout MutableSpan<UInt8>) -> Int) -> Bool {
        let start = unsafe scratch + Size.headroom
        var span = unsafe MutableSpan(
            _unsafeStart: start.assumingMemoryBound(to: UInt8.self), count: Size.segment - Size.headroom)
        let length = write(&services, &span)
        if length > 0 { unsafe transmit(start, count: length, header: VirtioNetHeader()) }
        return length > 0
    }

    /// Passes a frame to the link.
    @inline(__always)
    private mutating func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) {
        if unsafe !link.transmit(frame, count: count, header: header) { counters.drop(.linkRefused) }
        counters.framesOut &+= 1
        counters.bytesOut &+= UInt64(count)
        if capture != nil { unsafe recordFrame(frame, count: count) }
    }

    /// Passes a frame to the link that `peekVectors` describes.
    private mutating func transmitPieces(_ pieces: Int, count: Int, header: VirtioNetHeader) {
        // The frame is recorded before the link adds its header.
        if capture != nil { recordPieces(pieces) }
        if unsafe !link.transmit(peekVectors, count: pieces, header: header) { counters.drop(.linkRefused) }
        counters.framesOut &+= 1
        counters.bytesOut &+= UInt64(count)
    }

    private mutating func recordFrame(_ frame: UnsafeMutableRawPointer, count: Int) {
        unsafe capture?.record(UnsafeRawBufferPointer(start: frame, count: count))
    }

    private mutating func recordPieces(_ pieces: Int) {
        var whole: [UInt8] = []
        for position in 0..<pieces {
            let vector = unsafe peekVectors[position]
            unsafe whole.append(contentsOf: UnsafeRawBufferPointer(start: vector.iov_base, count: vector.iov_len))
        }
        unsafe whole.withUnsafeBytes { unsafe capture?.record($0) }
    }
}
