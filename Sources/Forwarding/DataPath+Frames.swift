// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Frames from the tap: read in batches, classified, handed to the protocols.
//
// syscalls: running(data-path): read

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import SystemPackage
internal import Wire

extension DataPath {
    /// Reads and handles frames until the tap is empty or its share of the turn is used.
    ///
    /// - Returns: False if the tap is gone: hung up or in error.
    mutating func readTap() -> Bool {
        opened = 0
        for _ in 0..<4 where opened < Size.openings {
            switch readBatch() {
            case .more: continue
            case .empty:
                tapHasMore = false
                return true
            case .gone: return false
            }
        }
        tapHasMore = true
        return true
    }

    private enum Batch {
        case more
        case empty
        case gone
    }

    private mutating func readBatch() -> Batch {
        var used = 0
        var frames = 0
        var outcome = Batch.more
        let number = tap.descriptor.rawValue
        reading: while used <= Size.batch && frames < Size.batchFrames && opened < Size.openings {
            let start = unsafe receiveArena + used
            switch transferring({ unsafe tapas_read(number, start, Size.frame) }) {
            case .bytes(let count):
                if count == 0 {
                    outcome = .gone
                    break reading
                }
                frames += 1
                unsafe receive(start, count: count)
                used += (count + 63) & ~63
            case .wouldBlock:
                outcome = .empty
                break reading
            case .failed:
                outcome = .gone
                break reading
            }
        }
        flushGathered()
        if narration.batches && frames > 0 { tellBatch(frames: frames, bytes: used) }
        serveQueue()
        return outcome
    }

    /// Handles what one read gave: the virtio-net header and the frame.
    @inline(__always)
    private mutating func receive(_ start: UnsafeMutableRawPointer, count: Int) {
        var header = VirtioNetHeader()
        if frameHeaderLength != 0 {
            guard let parsed = try? VirtioNetHeader(unsafe Self.bytes(start, min(count, VirtioNetHeader.length))) else {
                counters.drop(Wire.DropReason.truncatedEthernet)
                return
            }
            header = parsed
        }
        let frame = unsafe start + frameHeaderLength
        let length = count - frameHeaderLength
        counters.framesIn &+= 1
        counters.bytesIn &+= UInt64(length)
        if capture != nil { unsafe capture?.record(UnsafeRawBufferPointer(start: frame, count: length)) }
        unsafe receiveFrame(frame, count: length, header: header)
    }

    /// Handles one frame, from the tap or put together of fragments.
    ///
    /// The classification has refused what no link carries; here frames go to the services of the link first, and what
    /// comes from a host without an address goes nowhere else.
    @inline(__always)
    mutating func receiveFrame(
        _ frame: UnsafeMutableRawPointer, count length: Int, header: VirtioNetHeader, isReassembled: Bool = false
    ) {
        let summary: FrameSummary
        do {
            summary = try FrameSummary(unsafe Self.bytes(frame, length))
            if !header.flags.contains(.needsChecksum) && !header.flags.contains(.dataValid) {
                try summary.verifyTransportChecksum(unsafe Self.bytes(frame, length))
            }
        } catch {
            counters.drop(error)
            return
        }
        if summary.sourceMAC != guestMAC {
            guard !summary.sourceMAC.isMulticast else { return counters.drop(.martian) }
            guestMAC = summary.sourceMAC
        }
        if let service = service(for: summary) {
            unsafe serve(service, summary, frame: frame, count: length, isReassembled: isReassembled)
            return
        }
        guard !summary.hasUnspecifiedSource else { return counters.drop(.martian) }
        switch summary.kind {
        case .tcp:
            learnSource(summary)
            unsafe receiveTCP(summary, frame: frame, count: length)
        case .udp:
            learnSource(summary)
            unsafe receiveUDP(summary, header: header, frame: frame, count: length)
        case .icmpv4, .icmpv6:
            learnSource(summary)
            unsafe receiveICMP(summary, frame: frame, count: length)
        case .fragment:
            guard !isReassembled else { return counters.drop(FlowDropReason.fragment) }
            unsafe receiveFragment(summary, frame: frame, count: length)
        case .arp: break
        case .otherProtocol:
            counters.drop(FlowDropReason.unknownProtocol)
            unsafe refuseProtocol(summary, frame: frame, count: length)
        }
    }

    /// Learns the namespace's address from a packet, for flows that are opened on the host.
    @inline(__always)
    mutating func learnSource(_ summary: FrameSummary) {
        if !seen.isKnown(summary.source) { seen.observe(summary.source, rules: translator.rules) }
    }

    private mutating func refuseProtocol(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        guard summary.isIPv4, ICMPError.mayAnswer(summary) else { return }
        let mac = gatewayMAC
        reply { span, rules in
            ICMPError.protocolUnreachable().writeFrame(
                into: &span, about: unsafe Self.bytes(frame, count), summary: summary,
                from: rules.families.v4.ownAddress?.asIPv6 ?? summary.destination, sourceMAC: mac)
        }
    }

    /// Sends the frame that `write` puts into the scratch memory, if it has a length.
    mutating func reply(_ write: (inout MutableSpan<UInt8>, TranslationRules) -> Int) {
        let start = unsafe scratch + Size.headroom
        var span = unsafe MutableSpan(
            _unsafeStart: start.assumingMemoryBound(to: UInt8.self), count: Size.segment - Size.headroom)
        let length = write(&span, translator.rules)
        if length > 0 { unsafe transmit(start, count: length, header: VirtioNetHeader()) }
    }

    // MARK: Gathering

    /// Sends what was gathered.
    mutating func flushGathered() {
        guard gather.flow >= 0 else { return }
        let run = gather
        gather = Gather()
        if run.count == 0 { return }
        if run.segmentSize == 0 {
            flushTCP(run.flow, count: run.count, bytes: run.bytes)
        } else {
            flushUDP(run)
        }
    }
}
