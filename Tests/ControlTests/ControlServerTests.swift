// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import JSON
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import Synchronization
import SystemPackage
import TestSupport
import Testing

@testable import Control

/// A service with predictable answers.
private final class EchoService: ControlService {
    /// The events that `flood` may send, as those of `watch`: each change is an event.
    let permitted = Atomic(0)
    /// Whether `flood` was told to end.
    let isEnded = Atomic(false)

    func respond(to request: ControlRequest, on exchange: ControlExchange) async {
        switch request.method {
        case "echo": await exchange.finish(.success(.object(request.parameters)))
        case "may-change": await exchange.finish(.success(.bool(exchange.mayChange)))
        case "flood":
            // Events that are not waited for, like those of `watch`.
            var sent = 0
            while !Task.isCancelled {
                guard sent < permitted.load(ordering: .relaxed) else {
                    await Task.yield()
                    continue
                }
                sent += 1
                await exchange.send(.integer(Int64(sent)))
            }
            isEnded.store(true, ordering: .relaxed)
        case "large":
            // Parts of a large answer.
            for number in 0..<20_000 {
                guard await exchange.isReadByClient() else { return }
                await exchange.send([
                    "number": .integer(Int64(number)), "text": "0123456789012345678901234567890123456789",
                ])
            }
            await exchange.finish(.success("done"))
        case "descriptor":
            guard let descriptor = await exchange.takeDescriptor() else {
                return await exchange.finish(.failure(ControlError(.invalidParameters, "no descriptor")))
            }
            _ = try? FileDescriptor(rawValue: descriptor.rawValue).writeAll("written by the server".utf8)
            await exchange.finish(.success("written"))
        default: await exchange.finish(.failure(ControlError(.unknownMethod, "no method '\(request.method)'")))
        }
    }
}

/// A folder of the test's own.
private func makeFolder() throws -> String {
    var template = Array("/tmp/tapas-control.XXXXXX".utf8CString)
    let made = template.withUnsafeMutableBufferPointer { buffer in
        buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
    }
    return try #require(made)
}

/// A folder of the test's own, a server in it, and clients.
private final class Bench {
    let folder: String
    let server: ControlServer
    let service = EchoService()
    var path: String { "\(folder)/x.sock" }

    // A client that is dismissed may read why for ever, unless a test is about that: a busy machine may let nobody read for
    // seconds.
    init(farewell: Int64 = 600_000) async throws {
        folder = try makeFolder()
        let thread = try EventLoopThread.start()
        server = ControlServer(
            loop: thread.loop, socket: try ControlSocket(path: "\(folder)/x.sock"), service: service,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, farewell: farewell)
        try await server.start()
    }

    deinit {
        unlink(path)
        rmdir(folder)
    }

    func client() throws -> TestClient { try TestClient(path) }
}

/// A blocking client with a deadline.
private final class TestClient {
    private let socket: OwnedFileDescriptor
    private var input: [UInt8] = []

    init(_ path: String) throws {
        socket = try UnixSocketAddress.socket(.stream, waits: true)
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(socket.rawValue, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        try #require(UnixSocketAddress(path: path)).connect(socket.descriptor)
    }

    func send(_ text: String) throws { try socket.descriptor.writeAll(text.utf8) }

    func request(_ number: Int64, _ method: String, _ parameters: JSONValue = [:]) throws {
        let request = ControlRequest(id: .number(number), method: method, parameters: parameters.object ?? JSONObject())
        try socket.descriptor.writeAll(request.line)
    }

    func shutDown() { shutdown(socket.rawValue, CInt(SHUT_WR)) }

    var descriptor: CInt { socket.rawValue }

    /// The next line; nil at the end.
    func line() throws -> String? {
        while true {
            if let end = input.firstIndex(of: 0x0A) {
                defer { input.removeSubrange(...end) }
                return String(decoding: input[..<end], as: UTF8.self)
            }
            var buffer: [UInt8] = .init(repeating: 0, count: 65_536)
            let count = try buffer.withUnsafeMutableBytes { try socket.descriptor.read(into: $0) }
            if count == 0 { return nil }
            input += buffer[..<count]
        }
    }

    func answer() throws -> ControlAnswer? {
        try line().map { try ControlAnswer(parsing: Array($0.utf8)) }
    }
}

/// Waits until a condition holds.
private func eventually(_ condition: () async -> Bool) async throws {
    let limit = MonotonicTime.now.advanced(milliseconds: 20_000)
    while await !condition() {
        try #require(MonotonicTime.now < limit, "it does not come to hold")
        await Task.yield()
    }
}

@Suite("control server", .timeLimit(.minutes(3))) struct ControlServerTests {
    @Test(
        "the file has mode 0600, a stale one is replaced, a live one refused, and it goes at the end", .takesPortsBack)
    func theFileHasMode0600() async throws {
        let bench = try await Bench()
        var status = stat()
        #expect(stat(bench.path, &status) == 0 && status.st_mode & 0o7777 == 0o600)
        #expect { _ = try ControlSocket(path: bench.path) } throws: {
            "\($0)".contains("a running program listens there")
        }
        await bench.server.stop()
        #expect(stat(bench.path, &status) != 0)
        // The socket of a program that has ended without removing it.
        do { _ = try ControlSocket(path: bench.path) }
        #expect(stat(bench.path, &status) == 0)
        let next = try ControlSocket(path: bench.path)
        next.remove()
        #expect(stat(bench.path, &status) != 0)
    }

    @Test("a path that cannot be used is refused in one line")
    func aPathThatCannotBeHadIsRefused() {
        for (path, words) in [
            ("", "the path is empty"), ("/tmp/" + String(repeating: "x", count: 200), "longer than the 107 bytes"),
            ("/nonexistent/x.sock", "the folder does not exist"), ("/etc/passwd", "a file that is no socket"),
        ] {
            #expect { _ = try ControlSocket(path: path) } throws: {
                "\($0)".contains(words) && !"\($0)".contains("\n")
            }
        }
    }

    @Test("requests are answered with their ids, wrong ones with an error")
    func requestsAreAnswered() async throws {
        let bench = try await Bench()
        let client = try bench.client()
        try client.send(#"{"v":1,"id":"a","method":"echo","params":{"x":[1,2]}}"# + "\n" + "nonsense\n")
        var lines: Set<String> = []
        for _ in 0..<2 { lines.insert(try #require(try client.line())) }
        #expect(lines.contains(#"{"v":1,"id":"a","result":{"x":[1,2]}}"#))
        #expect(lines.contains { $0.hasPrefix(#"{"v":1,"id":null,"error":{"code":"malformed""#) })
        try client.request(2, "nothing")
        #expect(
            try client.answer()
                == ControlAnswer(id: .number(2), .error(ControlError(.unknownMethod, "no method 'nothing'"))))
        try client.request(3, "may-change")
        #expect(try client.answer() == ControlAnswer(id: .number(3), .result(true)))
    }

    @Test("a client that has shut its side down still gets its answers, and then the end")
    func aClientThatHasShutItsSideDownStillGetsItsAnswers() async throws {
        let bench = try await Bench()
        let client = try bench.client()
        try client.request(1, "large")
        client.shutDown()
        var events = 0
        while let answer = try client.answer(), !answer.isLast { events += 1 }
        #expect(events == 20_000)
        #expect(try client.line() == nil)
    }

    @Test("a line that is too long ends the client with a reason")
    func aLineThatIsTooLongEndsTheClient() async throws {
        let bench = try await Bench()
        let client = try bench.client()
        try client.send(String(repeating: " ", count: ControlRequest.greatestLength + 1))
        guard case .error(let error) = try client.answer()?.body else { Issue.record("no error"); return }
        #expect(error.code == .malformed)
        #expect(try client.line() == nil)
    }

    @Test("a stream that is not read ends with a reason, and does not affect other clients")
    func aStreamThatIsNotReadEndsWithAReason() async throws {
        let bench = try await Bench()
        let slow = try bench.client()
        try slow.request(1, "flood")
        let other = try bench.client()
        // The other client is answered between the events, which come to more than the socket and the backlog hold.
        var number: Int64 = 0
        while !bench.service.isEnded.load(ordering: .relaxed) {
            bench.service.permitted.add(1000, ordering: .relaxed)
            number += 1
            try other.request(number, "echo")
            #expect(try other.answer()?.isLast == true)
        }
        #expect(number > 20)
        var last: ControlAnswer?
        while let answer = try slow.answer() { last = answer }
        guard case .error(let error) = last?.body else { Issue.record("\(String(describing: last))"); return }
        #expect(error.code == .slow)
    }

    @Test("a dismissed client that does not read the reason is closed nevertheless")
    func whoDoesNotReadIsClosed() async throws {
        let bench = try await Bench(farewell: 10)
        let slow = try bench.client()
        try slow.request(1, "flood")
        bench.service.permitted.store(Int.max, ordering: .relaxed)
        try await eventually { await bench.server.clientCount == 1 }
        try await eventually { await bench.server.clientCount == 0 }
        let isEnded = bench.service.isEnded.load(ordering: .relaxed)
        #expect(isEnded)
    }

    @Test("clients beyond the limit receive an error")
    func moreClientsThanAreServedAreToldSo() async throws {
        let bench = try await Bench()
        var clients: [TestClient] = []
        for number in 0..<ControlServer.greatestClientCount {
            let client = try bench.client()
            try client.request(Int64(number), "echo")
            #expect(try client.answer()?.isLast == true)
            clients.append(client)
        }
        guard case .error(let error) = try bench.client().answer()?.body else { Issue.record("no error"); return }
        #expect(error.code == .busy)
        clients.removeAll()
    }

    @Test("a descriptor that comes with a request reaches the service")
    func aDescriptorReachesTheService() async throws {
        let bench = try await Bench()
        let client = try bench.client()
        let (reading, writing) = try FileDescriptor.pipe()
        defer { try? reading.close() }
        let line = ControlRequest(id: .number(1), method: "descriptor").line
        try ControlDescriptorPassing.send(line, with: writing, to: FileDescriptor(rawValue: client.descriptor))
        try writing.close()
        #expect(try client.answer() == ControlAnswer(id: .number(1), .result("written")))
        var buffer: [UInt8] = .init(repeating: 0, count: 100)
        let count = try buffer.withUnsafeMutableBytes { try reading.read(into: $0) }
        #expect(String(decoding: buffer[..<count], as: UTF8.self) == "written by the server")
    }
}

@Suite("pesto server", .timeLimit(.minutes(1))) struct PestoServerTests {
    /// The rules, in place of the forwarded ports.
    private final class Rules: Sendable {
        let rules = Mutex<[PortForward]>([])
    }

    @Test("a client sees the rules, replaces them, and a silent one before it is closed after a while")
    func aClientSeesAndReplacesTheRules() async throws {
        let folder = try makeFolder()
        let path = "\(folder)/c.sock"
        let thread = try EventLoopThread.start()
        let rules = Rules()
        let server = PestoServer(
            loop: thread.loop, socket: try ControlSocket(path: path), tables: [.host, .splice],
            capabilities: [.ipv4, .ipv6, .tcp, .udp], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            current: { rules.rules.withLock { $0 } },
            replace: { new throws(ControlError) in
                if new.contains(where: { $0.first == Port(1) }) { throw ControlError(.refused, "port 1 is taken") }
                rules.rules.withLock { $0 = new }
            })
        try await server.start()
        let address = try #require(UnixSocketAddress(path: path))
        let silent = try UnixSocketAddress.socket(.stream, waits: true)
        try address.connect(silent.descriptor)
        let rule = PortForward(
            direction: .inbound, transport: .tcp, first: Port(8080), last: Port(8080), targetFirst: Port(80))
        var block: [UInt8] = [1, 0, 0, 0, 1]
        PestoRule.append(rule, to: &block)
        #expect(try exchange(address, block + [0]).contains("HOST"))
        #expect(rules.rules.withLock { $0 } == [rule])
        // Refused as a whole.
        var refused: [UInt8] = [1, 0, 0, 0, 2]
        PestoRule.append(rule, to: &refused)
        PestoRule.append(
            PortForward(direction: .inbound, transport: .tcp, first: Port(1), last: Port(1), targetFirst: Port(1)),
            to: &refused)
        _ = try exchange(address, refused + [0])
        #expect(rules.rules.withLock { $0 } == [rule])
        _ = try exchange(address, [])
        _ = try exchange(address, [1, 0, 0, 0, 0, 0])
        #expect(rules.rules.withLock { $0 } == [])
        await server.stop()
        rmdir(folder)
    }

    /// Reads the greeting, sends, shuts down and waits for the end.
    private func exchange(_ address: UnixSocketAddress, _ bytes: [UInt8]) throws -> String {
        let socket = try UnixSocketAddress.socket(.stream, waits: true)
        try address.connect(socket.descriptor)
        var seen: [UInt8] = []
        var buffer: [UInt8] = .init(repeating: 0, count: 4096)
        let first = try buffer.withUnsafeMutableBytes { try socket.descriptor.read(into: $0) }
        seen += buffer[..<first]
        try socket.descriptor.writeAll(bytes)
        shutdown(socket.rawValue, CInt(SHUT_WR))
        while true {
            let count = try buffer.withUnsafeMutableBytes { try socket.descriptor.read(into: $0) }
            if count == 0 { return String(decoding: seen, as: UTF8.self) }
            seen += buffer[..<count]
        }
    }
}
