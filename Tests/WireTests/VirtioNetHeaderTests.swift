// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import Wire

@Suite("Virtio network header")
struct VirtioNetHeaderTests {
    @Test("lies in memory as struct virtio_net_hdr of a little-endian machine")
    func liesInMemory() throws {
        var header = VirtioNetHeader(checksumStart: 34, checksumOffset: 16)
        header.segment(.tcpv4, size: 1460, headerLength: 54)
        var bytes = [UInt8](repeating: 0, count: 10)
        var span = bytes.mutableSpan
        header.write(into: &span)
        #expect(bytes == hex("01 01 3600 b405 2200 1000"))
        #expect(try VirtioNetHeader(bytes.span) == header)
    }

    @Test("reads what it writes")
    func readsWhatItWrites() throws {
        var header = VirtioNetHeader()
        header.flags = .dataValid
        header.segmentation = .init(rawValue: VirtioNetHeader.Segmentation.tcpv6.rawValue | 0x80)
        header.segmentSize = 0xFFFF
        var bytes = [UInt8](repeating: 0, count: 14)
        var span = bytes.mutableSpan
        header.write(into: &span, at: 4)
        let read = try VirtioNetHeader(Array(bytes[4...]).span)
        #expect(read == header)
        #expect(read.segmentation.kind == .tcpv6)
    }

    @Test("refuses fewer than ten bytes")
    func refusesFewer() {
        #expect(throws: ParseError.truncated) { try VirtioNetHeader([UInt8](repeating: 0, count: 9).span) }
    }
}
