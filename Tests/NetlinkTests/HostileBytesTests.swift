// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import TestSupport
import Testing

private func parseEverything(_ bytes: [UInt8]) {
    let found = EveryNetlinkParser.parse(bytes)
    #expect(found.messages <= bytes.count / 16 + 1)
    #expect(found.attributes <= bytes.count / 4 + 1)
}

@Suite("rtnetlink messages, hostile bytes")
struct HostileBytesTests {
    @Test("random bytes trap no parser", arguments: 0..<50)
    func random(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<200 {
            let count = Int.random(in: 0..<120, using: &random)
            parseEverything((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
        }
    }

    @Test("recorded messages, cut off and with bytes changed, trap no parser", arguments: 0..<10)
    func mutated(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let trace = try NetlinkTrace.fixture("netlink-every-kind-of-route.trace")
        let messages = trace.steps.flatMap { $0.events + $0.answers.values.flatMap { $0 } }
        try #require(messages.count > 50)
        for message in messages {
            var bytes = Array(message.dropFirst(16))
            for _ in 0..<Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
                let position = Int.random(in: 0..<bytes.count, using: &random)
                bytes[position] =
                    [0, 1, 0x7F, 0x80, 0xFF, UInt8.random(in: 0...255, using: &random)]
                    .randomElement(using: &random) ?? 0
            }
            parseEverything(Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random))))
        }
    }

    @Test("an attribute of length 0 ends the walk")
    func zeroLength() {
        let bytes = hexBytes("00000100 08000200 01020304")
        var walk = AttributeWalk()
        let next = walk.next(in: bytes.span)
        #expect(next == nil)
        #expect(walk.isDamaged)
    }

    @Test("a message that claims more than the datagram ends the walk")
    func tooLong() {
        let bytes = hexBytes("40000000 10000000 01000000 00000000")
        var walk = MessageWalk()
        let next = walk.next(in: bytes.span)
        #expect(next?.payload == nil)
        #expect(walk.isDamaged)
    }

    @Test("unknown attributes are passed over")
    func unknown() throws {
        let known = hexBytes("02188000 03000000") + attribute(0x3FFF, [1, 2, 3]) + attribute(2, [192, 0, 2, 10])
        let parsed = AddressMessage.parse(known.span)
        #expect(parsed?.prefix.description == "192.0.2.10/24")
    }
}
