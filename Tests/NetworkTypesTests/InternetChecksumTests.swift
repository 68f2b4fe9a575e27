// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing

@Suite("Internet checksum (RFC 1071)")
struct InternetChecksumTests {
    /// The obvious way: 16-bit words in network order, end-around carry, the last odd byte padded with zero.
    private func slow(_ bytes: [UInt8]) -> UInt16 {
        var sum = 0
        for index in stride(from: 0, to: bytes.count, by: 2) {
            sum += Int(bytes[index]) << 8 | (index + 1 < bytes.count ? Int(bytes[index + 1]) : 0)
            sum = (sum & 0xFFFF) + (sum >> 16)
        }
        return UInt16(sum)
    }

    private func fast(_ bytes: [UInt8]) -> InternetChecksum {
        var checksum = InternetChecksum()
        checksum.add(bytes.span)
        return checksum
    }

    @Test("the example of RFC 1071 section 3")
    func rfcExample() {
        let checksum = fast([0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7])
        #expect(checksum.folded == 0xDDF2)
        #expect(checksum.value == 0x220D)
    }

    @Test("an IPv4 header: computed with the field zero, and zero with the field filled in")
    func ipv4Header() {
        // Version 4, 20 bytes, total 115, DF, TTL 64, UDP, checksum b861, 192.168.0.1 to 192.168.0.199.
        var header: [UInt8] = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xB8, 0x61, 0xC0, 0xA8, 0x00, 0x01, 0xC0, 0xA8,
            0x00, 0xC7,
        ]
        #expect(fast(header).value == 0)
        header[10] = 0
        header[11] = 0
        #expect(fast(header).value == 0xB861)
    }

    @Test("a UDP datagram over IPv6 with its pseudo-header")
    func udpOverIPv6() throws {
        let source = try #require(IPv6Address("2001:db8::1"))
        let destination = try #require(IPv6Address("2001:db8::2"))
        let payload: [UInt8] = [0x04, 0xD2, 0x00, 0x35, 0x00, 0x0B, 0x00, 0x00, 0x61, 0x62, 0x63]
        var checksum = InternetChecksum()
        checksum.add(source)
        checksum.add(destination)
        checksum.add(UInt32(payload.count))
        checksum.add(UInt32(17))
        checksum.add(payload.span)
        var pseudo: [UInt8] = []
        for address in [source, destination] {
            for index in 0..<8 {
                pseudo += [UInt8(address.groups[index] >> 8), UInt8(address.groups[index] & 0xFF)]
            }
        }
        pseudo += [0, 0, 0, 11, 0, 0, 0, 17]
        #expect(checksum.folded == slow(pseudo + payload))
        #expect(checksum.value == 0xDAF9)
    }

    @Test("empty, single bytes and all ones")
    func edges() {
        #expect(InternetChecksum().value == 0xFFFF)
        #expect(fast([]).value == 0xFFFF)
        #expect(fast([0xAB]).folded == 0xAB00)
        #expect(fast([UInt8](repeating: 0xFF, count: 65535)).folded == slow([UInt8](repeating: 0xFF, count: 65535)))
        #expect(fast([UInt8](repeating: 0xFF, count: 40)).folded == 0xFFFF)
    }

    @Test("equals the slow sum at every length", arguments: 0...130)
    func everyLength(length: Int) {
        var random = SplitMix64(seed: UInt64(length))
        for _ in 0..<20 {
            let bytes = (0..<length).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            #expect(fast(bytes).folded == slow(bytes))
        }
    }

    @Test("adds up over pieces split at even offsets", arguments: [1, 2, 3, 4] as [UInt64])
    func splits(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<500 {
            let bytes = random.bytes(upTo: 3000)
            var checksum = InternetChecksum()
            var rest = bytes[...]
            while !rest.isEmpty {
                let piece = min(rest.count, 2 * Int.random(in: 0...400, using: &random))
                let taken = Array(rest.prefix(random.chance(10) ? rest.count : piece))
                checksum.add(taken.span)
                rest = rest.dropFirst(taken.count)
            }
            #expect(checksum.folded == slow(bytes), "seed \(seed), \(bytes.count) bytes")
        }
    }

    @Test("reads from any alignment", arguments: 0..<8)
    func alignment(offset: Int) {
        var random = SplitMix64(seed: 99)
        let bytes = (0..<200).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        let expected = slow(Array(bytes[offset...]))
        var checksum = InternetChecksum()
        bytes.withUnsafeBytes { checksum.add(rawBytes: UnsafeRawBufferPointer(rebasing: $0[offset...])) }
        #expect(checksum.folded == expected)
    }

    @Test("words and addresses add like their bytes")
    func wordsAndAddresses() {
        var checksum = InternetChecksum()
        checksum.add(UInt16(0x1234))
        checksum.add(UInt32(0xFFFF_0001))
        checksum.add(IPv4Address(192, 0, 2, 255))
        #expect(checksum.folded == slow([0x12, 0x34, 0xFF, 0xFF, 0x00, 0x01, 192, 0, 2, 255]))
    }
}
