// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

/// A message's payload of a test: its value is its first byte; below 10 there is none, above 200 it does not last.
private func make(_ payload: Span<UInt8>) -> (value: [UInt8]?, isLasting: Bool) {
    let first = payload[0]
    return (first < 10 ? nil : payload.array(), first <= 200)
}

private func read(_ messages: [[UInt8]], _ memory: inout DumpMemory<[UInt8]>) {
    memory.begin()
    for message in messages { memory.take(message.span, make) }
    memory.end()
}

@Suite("Dumps are read by their differences")
struct DumpMemoryTests {
    @Test("the values are those of a fresh reading, whatever came, went or moved", arguments: 0..<200 as Range<UInt64>)
    func equalsFresh(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var messages: [[UInt8]] = []
        var memory = DumpMemory<[UInt8]>()
        for _ in 0..<30 {
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                let message = (0..<Int.random(in: 1...6, using: &random)).map { _ in
                    UInt8.random(in: 0...255, using: &random)
                }
                let place = Int.random(in: 0...messages.count, using: &random)
                switch Int.random(in: 0..<6, using: &random) {
                case 0, 1: messages.insert(message, at: place)
                case 2 where place < messages.count: messages.remove(at: place)
                case 3 where place < messages.count: messages[place] = message
                case 4: messages.removeSubrange(place..<min(messages.count, place + 20))
                default: messages.insert(contentsOf: (0..<30).map { [UInt8($0) + 100, 1] }, at: place)
                }
            }
            read(messages, &memory)
            #expect(memory.values == messages.compactMap { make($0.span).value }, "seed \(seed)")
        }
    }

    @Test("what did not change is not made again")
    func makesDifferencesOnly() {
        var messages = (0..<20_000).map { [50, UInt8($0 >> 8), UInt8($0 & 255)] }
        var memory = DumpMemory<[UInt8]>()
        read(messages, &memory)
        #expect(memory.madeCount == 20_000)
        read(messages, &memory)
        #expect(memory.madeCount == 20_000)
        messages.remove(at: 10_000)
        read(messages, &memory)
        messages.insert([50, 9, 9, 9], at: 5)
        read(messages, &memory)
        #expect(memory.madeCount == 20_001)
        #expect(memory.values == messages)
    }

    @Test("an attempt that is begun again leaves nothing behind")
    func beginsAgain() {
        var memory = DumpMemory<[UInt8]>()
        read([[20], [21], [22]], &memory)
        memory.begin()
        for message in [[20], [99]] as [[UInt8]] { memory.take(message.span, make) }
        read([[20], [21], [23]], &memory)
        #expect(memory.values == [[20], [21], [23]])
    }
}

@Suite("Many changes in one datagram")
struct BatchTests {
    private static let interface = InterfaceIndex(rawValue: 7)

    private func changes(_ count: Int) -> [RouteChange] {
        (0..<count).map { index in
            let address = IPAddress.v4(IPv4Address(rawValue: 0x0A00_0000 + UInt32(index) << 8))
            return .add(Route(destination: Prefix(address, length: 24) ?? Prefix(host: address)))
        }
    }

    @Test("1,000 changes take eight datagrams, and each error is that of its request")
    func errorsAreTold() {
        let kernel = ScriptedNetlink { request, count in
            let errno: Int32 = [3, 127, 128, 999].contains(count) ? 101 : 0
            return [.datagram([.acknowledgement(errno, of: request)])]
        }
        var socket = NetlinkSocket(over: kernel)
        let errors = socket.changeRoutes(changes(1000), through: Self.interface)
        #expect(kernel.requests.count == 1000)
        #expect(kernel.datagramCount == 8)
        #expect(errors.keys.sorted() == [3, 127, 128, 999])
        #expect(errors[3]?.operation.contains("10.0.3.0/24") == true)
        #expect(errors.values.allSatisfy { $0.kind == .refused && $0.errno == .networkUnreachable })
        // Success is asked for with the last of each batch only: NLM_F_ACK is 4.
        #expect(
            kernel.requests.indices.filter { kernel.requests[$0].flags & 4 != 0 } == [
                127, 255, 383, 511, 639, 767, 895, 999,
            ])
    }

    @Test("after lost answers only what was refused is known: the rest of that batch counts as failed, no other")
    func lostAnswers() {
        let kernel = ScriptedNetlink { request, count in
            switch count {
            case 5: [.datagram([.acknowledgement(17, of: request)]), .overflow]
            case 127: []
            default: [.datagram([.acknowledgement(0, of: request)])]
            }
        }
        var socket = NetlinkSocket(over: kernel)
        let errors = socket.changeRoutes(changes(300), through: Self.interface)
        #expect(errors[5]?.alreadyExists == true)
        #expect(errors.keys.sorted() == Array(0..<128))
        #expect(errors.values.filter { $0.kind == .malformed }.count == 127)
        #expect(kernel.requests.count == 300)
    }

    @Test("a socket that fails ends the work: nothing more is sent")
    func failingSocket() {
        let kernel = ScriptedNetlink { _, _ in [.failure(.badFileDescriptor)] }
        var socket = NetlinkSocket(over: kernel)
        let errors = socket.changeRoutes(changes(300), through: Self.interface)
        #expect(errors.count == 300)
        #expect(kernel.requests.count == 128)
    }
}
