// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc

/// A helper program that stays in a namespace and carries out requests, without the cost of starting a program each
/// time.
///
/// `Integration/Lab/Programs/agent.py` describes its requests.
public final class Agent: Sendable {
    /// The program that runs in the namespace.
    public let program: Program
    private let path: String

    fileprivate init(program: Program, path: String) {
        self.program = program
        self.path = path
    }

    /// Sends a request, and waits for the answer.
    ///
    /// - Parameters:
    ///   - words: The request and its arguments.
    ///   - limit: How long the answer may take.
    /// - Returns: The answer, several lines maybe.
    /// - Throws: `LabError` when there is no answer.
    @discardableResult
    public func ask(_ words: String..., within limit: Duration = .seconds(30)) async throws -> String {
        let request = words.joined(separator: " ")
        let number = try connected()
        defer { close(number) }
        var rest = Array((request + "\n").utf8)[...]
        var answer: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65536)
        var isComplete = false
        try await eventually("an answer to \"\(request.prefix(200))\"", within: limit) {
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                guard count > 0 else { return false }
                rest = rest.dropFirst(count)
            }
            while !isComplete {
                let count = piece.withUnsafeMutableBytes { read(number, $0.baseAddress, $0.count) }
                guard count >= 0 else { return false }
                answer += piece[..<count]
                isComplete = count == 0
            }
            return true
        }
        return String(decoding: answer, as: UTF8.self)
    }

    /// A socket to the agent that never blocks.
    private func connected() throws -> Int32 {
        let number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw LabError("socket: errno \(errno)") }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8.prefix($0.count - 1)) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard result == 0, fcntl(number, F_SETFL, O_NONBLOCK) == 0 else {
            let reason = errno
            close(number)
            throw LabError("\(program.command): cannot be asked (errno \(reason))\n\(program.errors)")
        }
        return number
    }
}

extension Host {
    /// Starts an agent in the host.
    ///
    /// - Parameter serves: True for one that also answers on every address of the host.
    /// - Returns: The agent, which can be asked.
    /// - Throws: `LabError` when it does not become ready.
    public func agent(serves: Bool = false) async throws -> Agent {
        let path = lab.newPath("agent")
        let program = try await start(
            ["python3", LabFiles.program("agent.py"), path] + (serves ? ["serve"] : []))
        try await program.wrote("ready")
        return Agent(program: program, path: path)
    }
}
