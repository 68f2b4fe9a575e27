// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing
import Wire

@Suite("Capture files (pcap-savefile(5))")
struct PcapTests {
    @Test("lie in memory as tcpdump reads them", arguments: [false, true])
    func lieInMemory(nanoseconds: Bool) throws {
        let file = PcapFileHeader(hasNanoseconds: nanoseconds, snapLength: 100)
        let record = PcapRecordHeader(seconds: 1, nanoseconds: 2_000_000, frameLength: 300, file: file)
        var bytes = [UInt8](repeating: 0xEE, count: 40)
        var span = bytes.mutableSpan
        file.write(into: &span)
        record.write(into: &span, at: 24)
        let magic = nanoseconds ? "4d3cb2a1" : "d4c3b2a1"
        let fraction = nanoseconds ? "80841e00" : "d0070000"
        #expect(
            bytes
                == hex("\(magic) 0200 0400 00000000 00000000 64000000 01000000  01000000 \(fraction) 64000000 2c010000")
        )
        #expect(try PcapFileHeader(bytes.span) == file)
        #expect(try PcapRecordHeader(Array(bytes[24...]).span) == record)
    }

    @Test("are refused when they are something else")
    func areRefused() {
        #expect(throws: ParseError.badType) { try PcapFileHeader([UInt8](repeating: 1, count: 24).span) }
        #expect(throws: ParseError.truncated) { try PcapFileHeader([UInt8](repeating: 1, count: 23).span) }
        let record = hex("00000000 00000000 05000000 04000000")
        #expect(throws: ParseError.badLength) { try PcapRecordHeader(record.span) }
    }
}
