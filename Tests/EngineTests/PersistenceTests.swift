// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import NetworkTypes
import Testing

@testable import Engine

@Suite("what an engine leaves to its successor") struct PersistenceTests {
    @Test(
        "messages are what they were",
        arguments: [
            HandoverMessage.keep("listen/in/TCP/80/*/*"), .release("tap"), .ready, .upgrade, .ended(-1), .given("log"),
            .begin(restarts: 70_000, instance: 4711, cause: "signal 9"), .refused("no"),
        ])
    func messages(message: HandoverMessage) {
        #expect(HandoverMessage(message.bytes[...]) == message)
        #expect(message.bytes.count <= HandoverMessage.greatestLength)
    }

    @Test(
        "bytes that are no message are none",
        arguments: [[], [0], [5, 1, 2], [7, 0, 0, 0, 0, 0, 0, 0], [9], [255, 1]])
    func nonsense(bytes: [UInt8]) {
        #expect(HandoverMessage(bytes[...]) == nil)
    }

    @Test("a long text does not make a message too long")
    func longText() {
        let text = String(repeating: "x", count: 5000)
        #expect(HandoverMessage.refused(text).bytes.count <= HandoverMessage.greatestLength)
    }

    @Test("a value outlives its writer, and a value that was being written when the writer was killed does not count")
    func stateFile() throws {
        let first = try StateFile.memory()
        let second = try StateFile.memory()
        let writer = StateFile(try first.duplicate(), try second.duplicate())
        #expect(writer.read() == nil)
        writer.write(Array("one".utf8))
        writer.write(Array("longer than two".utf8))
        writer.write(Array("three".utf8))
        #expect(StateFile(try first.duplicate(), try second.duplicate()).read() == Array("three".utf8))
        // The next value, 4, would go to the first file; its header is cleared first.
        let zeros = [UInt8](repeating: 0, count: 16)
        #expect(unsafe pwrite(first.rawValue, zeros, 16, 0) == 16)
        let reader = StateFile(try first.duplicate(), try second.duplicate())
        #expect(reader.read() == Array("three".utf8))
        reader.write(Array("four".utf8))
        #expect(StateFile(try first.duplicate(), try second.duplicate()).read() == Array("four".utf8))
    }

    @Test("rules are what they were")
    func rules() {
        let rules = [
            PortForward(direction: .inbound, transport: .tcp, first: Port(80), last: Port(90), targetFirst: Port(8080)),
            PortForward(
                direction: .outbound, transport: .udp, address: IPAddress("2001:db8::1"),
                interface: "eth0", first: Port(1), last: Port(1), targetFirst: Port(65535),
                targetAddress: IPAddress("192.0.2.1"), policy: .scanned),
            PortForward(
                direction: .inbound, transport: .udp, first: Port(1), last: Port(65535), targetFirst: Port(1),
                policy: .bestEffort),
        ]
        #expect(KeptRules.read(KeptRules.bytes(rules)) == rules)
    }

    @Test(
        "what is no list of rules is refused",
        arguments: [
            "", "{}", "[1]", #"[{"inbound": true}]"#,
            #"[{"inbound": true, "transport": "TCP", "first": 9, "last": 8, "target": 1, "policy": "auto"}]"#,
            #"[{"inbound": true, "transport": "TCP", "first": 1, "last": 3, "target": 65534, "policy": "auto"}]"#,
            #"[{"inbound": true, "transport": "TCP", "first": 1, "last": 99999, "target": 1, "policy": "auto"}]"#,
        ])
    func damagedRules(text: String) {
        #expect(KeptRules.read(Array(text.utf8)) == nil)
    }
}
