// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Control
import Glibc
import JSON
import LinuxSystem
import Logging
import Testing

@testable import ControlClient

private struct PidService: ControlService {
    let process: Int32

    func respond(to request: ControlRequest, on exchange: ControlExchange) async {
        await exchange.finish(.success(["pid": JSONValue(process)]))
    }
}

@Suite("The running instances of a user", .timeLimit(.minutes(1)))
struct InstancesTests {
    @Test("200 instances are found and answer; files of ended ones and other files are passed over")
    func many() async throws {
        var template = Array("/tmp/tapas-instances.XXXXXX".utf8CString)
        let made = template.withUnsafeMutableBufferPointer { buffer in
            buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
        }
        let folder = try #require(made)
        let loop = try EventLoopThread.start().loop
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        var servers: [ControlServer] = []
        for process in Int32(1001)...1200 {
            let socket = try ControlSocket(path: "\(folder)/\(process).sock")
            let server = ControlServer(
                loop: loop, socket: socket, service: PidService(process: process), logger: logger)
            try await server.start()
            servers.append(server)
        }
        // One that was killed leaves its file behind.
        do {
            let address = try #require(UnixSocketAddress(path: "\(folder)/7.sock"))
            let socket = try UnixSocketAddress.socket(.stream)
            try address.bind(socket.descriptor)
        }
        for name in ["x.sock", "12", "-3.sock"] { close(creat("\(folder)/\(name)", 0o600)) }
        let running = Instances.running(in: folder)
        #expect(running.map(\.process) == Array(1001...1200))
        // What `--all` does. One of them has stopped to answer and closes at once.
        await servers[7].stop()
        let deaf = try UnixSocketAddress.socket(.stream, waits: true)
        try #require(UnixSocketAddress(path: "\(folder)/1008.sock")).bind(deaf.descriptor)
        listen(deaf.rawValue, 16)
        let (closing, number) = (try EventLoopThread.start().loop, deaf.rawValue)
        closing.perform {
            // The first connection only asks whether somebody listens.
            for _ in 1...2 { close(accept(number, nil, nil)) }
        }
        var seen: [Int32] = []
        let (count, failures) = try Instances.askAll(in: folder) { (connection) throws(ClientError) in
            try connection.result("status")
        } take: { (process, result) throws(ClientError) in
            switch result {
            case .success(let value): if value["pid"] == JSONValue(process) { seen.append(process) }
            case .failure(let error): #expect(process == 1008 && "\(error)".hasSuffix("the instance has ended"))
            }
        }
        #expect(count == 200 && failures == 1 && seen == Array(1001...1200).filter { $0 != 1008 })
        for server in servers { await server.stop() }
        #expect(Instances.running(in: folder).map(\.process) == [1008])
        for name in ["7.sock", "x.sock", "12", "-3.sock", "1008.sock"] { unlink("\(folder)/\(name)") }
        #expect(rmdir(folder) == 0)
    }

    @Test("without a folder there is no instance, and errors are one line")
    func none() {
        #expect(Instances.running(in: "/nowhere/tapas").isEmpty)
        #expect(Instances.folder(runtimeFolder: "/run/user/1") == "/run/user/1/tapas")
        #expect(Instances.folder(runtimeFolder: "relative").hasPrefix("/run/user/"))
        do throws(ClientError) {
            _ = try ControlConnection(path: "/nowhere/x.sock")
            Issue.record("connected to nothing")
        } catch {
            #expect(error.description == "'/nowhere/x.sock': there is no such socket")
        }
    }
}
