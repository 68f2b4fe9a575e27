// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Logging
import SystemPackage
import Testing

@testable import Diagnostics

@Suite("Log destinations")
struct LogDestinationsTests {
    private func lines(_ folder: TemporaryFolder) throws -> [String] {
        try folder.content("log").split(separator: "\n").dropFirst().map { line in
            // The time is the clock's.
            line.split(separator: " ", maxSplits: 1).dropFirst().joined()
        }
    }

    private func destinations(_ folder: TemporaryFolder) throws -> LogDestinations {
        LogDestinations(
            program: "tapas", showsTimes: false, standardError: false,
            file: LogFile(try folder.file("log"), limit: 1 << 20, header: "header"))
    }

    @Test("a logger writes what is at its level or above, with its metadata in order")
    func writesWithMetadata() throws {
        let folder = try TemporaryFolder()
        var logger = TapasLogHandler.logger(level: .info, destinations: try destinations(folder))
        logger[metadataKey: "interface"] = "eth0"
        logger.debug("not this")
        logger.info("this", metadata: ["family": "IPv4", "count": "3"])
        logger.warning("and this")
        #expect(
            try lines(folder) == [
                "info: this (count=3, family=IPv4, interface=eth0)", "warning: and this (interface=eth0)",
            ])
    }

    @Test("the level of the destinations holds for loggers that exist, but for one with a level of its own")
    func aLevelThatChanges() throws {
        let folder = try TemporaryFolder()
        let destinations = try destinations(folder)
        let logger = TapasLogHandler.logger(level: .info, destinations: destinations)
        var own = logger
        own.logLevel = .error
        destinations.level = .debug
        logger.debug("now this")
        own.warning("not this")
        destinations.level = .warning
        logger.info("nor this")
        #expect(try lines(folder) == ["debug: now this"])
        #expect(logger.logLevel == .warning)
    }

    @Test(
        "line ends and control characters of a message are escaped",
        arguments: [("a\nb", "a\\nb"), ("a\u{1B}b", "a\\u{1b}b"), ("a\rb", "a\\rb")])
    func staysOneLine(text: String, line: String) throws {
        let folder = try TemporaryFolder()
        try destinations(folder).write(.error, text)
        #expect(try lines(folder) == ["error: \(line)"])
    }

    @Test("lines of a file begin with the time by RFC 3339, in UTC")
    func linesHaveTheTime() throws {
        let folder = try TemporaryFolder()
        try destinations(folder).write(.notice, "x")
        let line = try folder.content("log").split(separator: "\n").last ?? ""
        #expect(line.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z notice: x/) != nil, "\(line)")
    }

    @Test(
        "the system log gets facility daemon, the severity, program and process id",
        arguments: [
            (Logger.Level.trace, 31), (.debug, 31), (.info, 30), (.notice, 29), (.warning, 28), (.error, 27),
            (.critical, 26),
        ])
    func reachesTheSystemLog(level: Logger.Level, priority: Int) throws {
        let folder = try TemporaryFolder()
        let socket = try #require(listen(at: "\(folder.path)/socket"))
        defer { close(socket) }
        guard let log = SystemLog(path: "\(folder.path)/socket") else {
            Issue.record("the socket was not found")
            return
        }
        log.send(level, program: "tapas", "words")
        var bytes = [UInt8](repeating: 0, count: 200)
        let count = recv(socket, &bytes, bytes.count, CInt(MSG_DONTWAIT))
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        #expect(text == "<\(priority)>tapas[\(getpid())]: words")
    }

    @Test("a missing system log is no error")
    func missingSystemLog() {
        for path in ["/nonexistent/log", String(repeating: "x", count: 200)] {
            let log = SystemLog(path: path)
            if case .some = log { Issue.record("\(path) is a log") }
        }
    }

    private func listen(at path: String) -> CInt? {
        let socket = Glibc.socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        return result == 0 ? socket : nil
    }
}
