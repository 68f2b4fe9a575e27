// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Frames from the guest: read from the link in batches, classified, passed to the protocols.

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import SystemPackage
internal import Wire

extension DataPath {
    /// Reads and handles frames until the link is empty or its share of the turn is used.
    ///
    /// - Returns: False if the link is gone: hung up or in error.
    mutating func readLink() -> Bool {
        opened = 0
        for _ in 0..<4 where opened < Size.openings {
            switch readBatch() {
            case .more: continue
            case .empty:
                linkHasMore = false
                return true
            case .gone: return false
            }
        }
        linkHasMore = true
        return true
    }

    private enum Batch {
        case more
        case empty
        case gone
    }

    private mutating func readBatch() -> Batch {
        receiveArena.reset()
        var frames = 0
        var outcome = Batch.more
        reading: while !receiveArena.isFull && frames < Size.batchFrames && opened < Size.openings {
            switch link.receive(into: &receiveArena) {
            case .frame(let frame, let count, let header):
                frames += 1
                counters.framesIn &+= 1
                counters.bytesIn &+= UInt64(count)
                if capture != nil { unsafe capture?.record(UnsafeRawBufferPointer(start: frame, count: count)) }
                unsafe receiveFrame(frame, count: count, header: header)
            case .truncated:
                frames += 1
                counters.drop(Wire.DropReason.truncatedEthernet)
            case .empty:
                outcome = .empty
                break reading
            case .gone:
                outcome = .gone
                break reading
            }
        }
        flushGathered()
        if trace.batches && frames > 0 { traceBatch(frames: frames, bytes: receiveArena.used) }
        serveQueue()
        return outcome
    }

    /// Handles one frame, from the link or reassembled.
    ///
    /// The classification has refused addresses that cannot occur on a link. Frames go to the services of the link
    /// first; a frame from a host without an address goes nowhere else.
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
            if summary.sourceMAC == gatewayMAC { avoidGuestAddress(summary.sourceMAC) }
            guestMAC = summary.sourceMAC
        }
        if let service = service(for: summary) {
            unsafe serve(service, summary, frame: frame, count: length, isReassembled: isReassembled)
            return
        }
        guard !summary.hasUnspecifiedSource else { return counters.drop(.martian) }
        guard admits(summary) else { return }
        switch summary.kind {
        case .tcp:
            unsafe receiveTCP(summary, frame: frame, count: length)
        case .udp:
            unsafe receiveUDP(summary, header: header, frame: frame, count: length)
        case .icmpv4, .icmpv6:
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

    /// Whether a packet's source is one that the namespace may have; learns it for flows that are opened on the host.
    @inline(__always)
    mutating func admits(_ summary: FrameSummary) -> Bool {
        seen.isKnown(summary.source) || admitsNew(summary.source)
    }

    /// Judges a source that is not the last of its kind.
    @inline(never)
    private mutating func admitsNew(_ source: IPv6Address) -> Bool {
        switch seen.observe(source, rules: translator.rules, now: now) {
        case .taken: return true
        case .spoofed: counters.drop(.spoofedSource)
        case .strange:
            counters.drop(.strangeSource)
            if !reported.contains(.strangeSource) {
                reported.insert(.strangeSource)
                options.logger.warning(
                    "what comes from \(IPAddress(unmapping: source)) is dropped (--strict-addresses): no source gives it; add -a for it"
                )
            }
        }
        return false
    }

    private mutating func refuseProtocol(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        guard summary.isIPv4, ICMPError.mayAnswer(summary) else { return }
        let mac = gatewayMAC
        sendFrame { span, rules in
            ICMPError.protocolUnreachable().writeFrame(
                into: &span, about: unsafe Self.bytes(frame, count), summary: summary,
                from: rules.families.v4.ownAddress?.asIPv6 ?? summary.destination, sourceMAC: mac)
        }
    }

    // MARK: Gathering

    /// Sends the gathered payload.
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
