// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Control
import ControlClient
import Glibc
import JSON
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import Options
import Planning
import SystemPackage
import TestSupport
import Testing

@testable import Engine

private let silence = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// A chronicle behind a control socket, as an instance without data path and ports has it.
private final class Window: Sendable {
    let folder: String
    let chronicle: Chronicle
    let server: ControlServer

    init() async throws {
        var template = Array("/tmp/tapas-window.XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
        }
        folder = try #require(made)
        let loop = try EventLoopThread.start().loop
        var invocation = Invocation()
        invocation.verbosity = .quiet
        chronicle = Chronicle(loop: loop, Self.state(Host()))
        let log = try Log(invocation, becoming: nil)
        let methods = RunningMethods(
            dataPath: nil, ports: nil,
            forwards: ForwardCommands(invocation, ephemeralRange: EphemeralRange.fallback), log: log.destinations,
            memory: nil, start: .now, handover: nil, monitorFigures: { (nil, nil) })
        let egress = EgressControl(
            nil, request: EgressRequest(), loop: loop, records: try FlowRecordFiles(handedOver: EgressRequest()),
            handover: nil, isControlled: true)
        let context = ControlContext(
            invocation: invocation, loop: loop, chronicle: chronicle, dataPath: nil, methods: methods, log: log,
            egress: egress, landlockVersion: 0)
        let commands = ControlCommands(loop: loop)
        await commands.addStatus(context)
        await commands.addExplain(context)
        await commands.addWatch(context)
        await commands.addWait(context)
        await commands.addRunning(methods)
        server = ControlServer(
            loop: loop, socket: try ControlSocket(path: "\(folder)/1.sock"), service: commands, logger: silence)
        try await server.start()
    }

    deinit {
        unlink("\(folder)/1.sock")
        rmdir(folder)
    }

    var path: String { "\(folder)/1.sock" }

    /// Why a request is refused; nil if it is not.
    func refusal(_ method: String, _ parameters: JSONValue) -> String? {
        do {
            var client = try ControlConnection(path: path)
            _ = try client.ask(method, parameters)
            return nil
        } catch {
            return "\(error)"
        }
    }

    static func state(_ host: Host) -> Chronicle.State {
        let snapshot = host.taken()
        return .init(
            snapshot: snapshot,
            plan: Planning.plan(snapshot, Configuration(), namespaceFamilies: [.v4, .v6]))
    }

    static let online = state(
        Host("link w", "addr 192.0.2.10/24 dev w", "route default via 192.0.2.1 dev w", "dns 192.0.2.53"))

    /// Records that the host has gone online, or offline again.
    func record(_ state: Chronicle.State, ended: Int = 0) async {
        var change = FollowedChange(number: 0, time: 0, causes: "addresses")
        change.changes = planChanges(from: await chronicle.state.plan, to: state.plan)
        change.endedFlows = ended
        await chronicle.record(change, state)
    }
}

@Suite("The control socket of an instance", .timeLimit(.minutes(2)))
struct ControlLiveTests {
    @Test("status, explain and what is no method")
    func answers() async throws {
        let window = try await Window()
        var client = try ControlConnection(path: window.path)
        let before = try client.result("status")
        #expect(before["families"]?["ipv4"]?["mode"] == "local" && before["last_change"] == .null)
        await window.record(Window.online)
        let after = try client.result("status")
        #expect(after["families"]?["ipv4"]?["interface"] == "w" && after["resolvers"] == ["192.0.2.53"])
        #expect(after["last_change"]?["number"] == 1)
        #expect(try client.ask("explain", ["family": 4])["families"]?["ipv6"] == nil)
        let refusals: [(String, JSONValue, String)] = [
            ("nothing", [:], "there is no method 'nothing'"),
            ("status", ["a": 1], "'status' has no parameter 'a'"),
            ("explain", ["family": 5], "'family' must be 4 or 6"),
            ("explain", ["destination": "w"], "'destination' must be an IP address"),
        ]
        for (method, parameters, message) in refusals {
            #expect(window.refusal(method, parameters) == message)
        }
    }

    @Test("watch sends the present state, then each change exactly once")
    func watch() async throws {
        let window = try await Window()
        let path = window.path
        async let numbers = onAThread {
            var client = try ControlConnection(path: path)
            var seen: [Int64] = []
            try client.request("watch") { event throws(ClientError) in
                seen.append(event["number"]?.integer ?? -1)
                return seen.count < 41
            }
            return seen
        }
        // A watching client receives the present state first; from then on it must not miss a change.
        try await eventually { await window.server.clientCount == 1 }
        try await Task.sleep(for: .milliseconds(50))
        for step in 0..<40 { await window.record(step % 2 == 0 ? Window.online : Window.state(Host())) }
        #expect(try await numbers == Array(0...40))
    }

    @Test("a watch that is not read is dismissed, and does not delay others")
    func unreadWatch() async throws {
        let window = try await Window()
        let address = try #require(UnixSocketAddress(path: window.path))
        let socket = try UnixSocketAddress.socket(.stream, waits: true)
        try address.connect(socket.descriptor)
        try socket.descriptor.writeAll(#"{"v":1,"id":1,"method":"watch"}"#.utf8 + [0x0A])
        try await eventually { await window.server.clientCount == 1 }
        // A change with many operations is some kilobytes; 1 MiB may wait.
        var change = FollowedChange(number: 0, time: 0, causes: "routes")
        change.operations = .init(repeating: "route add 203.0.113.0/24 via 192.0.2.1 dev wlan0 metric 600", count: 200)
        change.operationCount = 200
        var recorded = 0
        while await window.server.clientCount > 0, recorded < 2000 {
            await window.chronicle.record(change, Window.online)
            recorded += 1
            await Task.yield()
        }
        // The client is dismissed: the server closes the connection after two seconds even though the reason is not
        // read.
        try await eventually { await window.server.clientCount == 0 }
        var client = try ControlConnection(path: window.path)
        #expect(try client.result("status")["pid"] != nil)
    }

    @Test("wait returns when it holds, at once if it does already, and says what is missing when time is up")
    func wait() async throws {
        let window = try await Window()
        let path = window.path
        async let waiting = onAThread {
            var client = try ControlConnection(path: path)
            return try client.ask("wait", ["usable": "4", "timeout": 60])
        }
        try await eventually { await window.server.clientCount == 1 }
        await window.record(Window.online)
        #expect(try await waiting["waited"]?.double != nil)
        var client = try ControlConnection(path: path)
        _ = try client.ask("wait", ["address": "192.0.2.10", "mode": "ipv4:template"])
        #expect(
            window.refusal("wait", ["address": "192.0.2.77", "timeout": .number(0.01)])
                == "after 0.01 s still no address 192.0.2.77")
    }

    @Test("log level, flows kill and what needs a data path")
    func shortAnswers() async throws {
        let window = try await Window()
        var client = try ControlConnection(path: window.path)
        let level = try client.ask("log.level", ["level": "debug"]).indentedText + "\n"
        #expect(level == Golden.text("control/log-level.json", found: level))
        #expect(try client.result("log.level") == ["level": "debug", "previous": "debug"])
        let killed = try client.ask("flows.kill", ["all": true]).indentedText + "\n"
        #expect(killed == Golden.text("control/flows-kill.json", found: killed))
        #expect(try client.result("forward.list") == ["forwards": []])
        let refusals: [(String, JSONValue, String)] = [
            ("log.level", ["level": "loud"], "'level' must be one of error, warning, notice, info, debug, trace"),
            ("pcap.stop", [:], "no capture runs"),
            ("pcap.start", [:], "no open file came with the request (SCM_RIGHTS)"),
            ("forward.add", ["rules": []], "this instance was started without what forwards ports"),
        ]
        for (method, parameters, message) in refusals { #expect(window.refusal(method, parameters) == message) }
    }

    @Test("a notification without effect is not a change, and lingering addresses are reported")
    func chronicle() async throws {
        let window = try await Window()
        await window.chronicle.record(FollowedChange(number: 0, time: 0, causes: "routes"), Window.state(Host()))
        #expect(await window.chronicle.changeCount == 0)
        var state = Window.online
        state.lingering = [try #require(IPAddress("198.51.100.5")): 1]
        await window.chronicle.note(state)
        var client = try ControlConnection(path: window.path)
        let addresses = try client.result("status")["families"]?["ipv4"]?["addresses"]?.array
        #expect(addresses?.last?["origin"] == "lingering" && addresses?.last?["flows"] == 1)
    }
}

/// Runs blocking code on a thread of its own, because the pool of the tests has only one thread for each processor.
private func onAThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
    let loop = try EventLoopThread.start().loop
    return try await withCheckedThrowingContinuation { continuation in
        loop.perform { continuation.resume(with: Result { try body() }) }
    }
}

extension ControlConnection {
    fileprivate mutating func ask(_ method: String, _ parameters: JSONValue) throws(ClientError) -> JSONValue {
        try result(method, parameters.object ?? JSONObject())
    }
}
