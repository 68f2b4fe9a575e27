// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Wire

@testable import Forwarding

/// Bytes that differ from place to place.
private let pattern = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }

/// A frame that differs from those of other small numbers.
func numberedFrame(_ number: Int, _ count: Int) -> [UInt8] {
    let start = number * 31 % 4001
    return Array(pattern[start..<(start + count)])
}

/// Has a link send a frame, in `pieces` pieces.
func transmit(
    _ frame: [UInt8], over link: some FrameLink, header: VirtioNetHeader = VirtioNetHeader(), pieces: Int = 1
) -> Bool {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: frame.count + 64, alignment: 16)
    defer { memory.deallocate() }
    let start = memory + 64
    start.copyMemory(from: frame, byteCount: frame.count)
    if pieces == 1 { return link.transmit(start, count: frame.count, header: header) }
    let size = (frame.count + pieces - 1) / pieces
    var vectors = stride(from: 0, to: frame.count, by: size).map { offset in
        iovec(iov_base: start + offset, iov_len: min(size, frame.count - offset))
    }
    let count = vectors.count
    return vectors.withUnsafeMutableBufferPointer { buffer in
        guard let first = buffer.baseAddress else { return false }
        return link.transmit(first, count: count, header: header)
    }
}
