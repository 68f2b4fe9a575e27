// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkTypes
internal import Wire

extension DataPath {
    /// Processes a fragment from the namespace; a datagram that it completes goes through the data path as one frame.
    mutating func receiveFragment(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) {
        let bytes = unsafe Self.bytes(frame, count)
        let end = summary.transportOffset + summary.transportLength
        let outcome = reassembly.take(
            Reassembly.Fragment(summary, in: bytes), payload: bytes.extracting(summary.transportOffset..<end),
            macs: (summary.destinationMAC, summary.sourceMAC), now: now.nanoseconds)
        switch outcome {
        case .waiting: break
        case .refused: counters.drop(FlowDropReason.fragment)
        case .whole(let whole, let length):
            // The gathered payload must be sent first, to keep the order; it is not in the memory of this frame.
            flushGathered()
            unsafe receiveFrame(whole, count: length, header: VirtioNetHeader(), isReassembled: true)
            flushGathered()
        }
    }
}
