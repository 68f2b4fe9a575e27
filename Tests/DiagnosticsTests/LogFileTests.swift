// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Testing

@testable import Diagnostics

@Suite("Log file (--log-file, --log-size)")
struct LogFileTests {
    @Test("begins with its header, mode 0600, and takes lines in order")
    func beginsWithItsHeader() throws {
        let folder = try TemporaryFolder()
        var file = LogFile(try folder.file("log"), limit: 1 << 20, header: "tapas 1: /bin/tapas (7)")
        file.write("first\n")
        file.write("second")
        #expect(try folder.content("log") == "tapas 1: /bin/tapas (7)\nfirst\nsecond\n")
        var status = stat()
        #expect(stat("\(folder.path)/log", &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test("empties a log that is there")
    func emptiesALogThatIsThere() throws {
        let folder = try TemporaryFolder()
        var old = LogFile(try folder.file("log"), limit: 1 << 20, header: "tapas old")
        old.write("old line")
        _ = LogFile(try folder.file("log"), limit: 1 << 20, header: "tapas new")
        #expect(try folder.content("log") == "tapas new\n")
    }

    @Test("never exceeds its limit, keeps the newest lines whole and says that others went", arguments: [40960, 65536])
    func neverExceedsItsLimit(limit: Int) throws {
        let folder = try TemporaryFolder()
        var file = LogFile(try folder.file("log"), limit: limit, header: "header")
        for number in 0..<3000 {
            file.write("line \(number) with some text behind it\n")
            var status = stat()
            #expect(stat("\(folder.path)/log", &status) == 0)
            #expect(Int(status.st_size) <= limit)
        }
        let lines = try folder.content("log").split(separator: "\n")
        #expect(lines.first == "header")
        #expect(lines.dropFirst().first == "[older messages were removed]")
        #expect(lines.last == "line 2999 with some text behind it")
        let numbers = lines.dropFirst(2).map { Int($0.split(separator: " ")[1]) }
        let newest = 3000 - numbers.count
        #expect(numbers == (newest..<3000).map { $0 })
        // Three tenths at most go at a time.
        #expect(numbers.count * 37 > limit / 2)
    }

    @Test("cuts a line that is longer than half of the file")
    func cutsALongLine() throws {
        let folder = try TemporaryFolder()
        var file = LogFile(try folder.file("log"), limit: LogFile.smallestLimit, header: "header")
        file.write(String(repeating: "x", count: 3 * LogFile.smallestLimit))
        file.write("after")
        let text = try folder.content("log")
        #expect(text.utf8.count <= LogFile.smallestLimit)
        #expect(text.hasSuffix("x\nafter\n"))
    }

    @Test("writes to a pipe, which cannot be cut")
    func writesToAPipe() throws {
        let folder = try TemporaryFolder()
        #expect(mkfifo("\(folder.path)/log", 0o600) == 0)
        let reader = open("\(folder.path)/log", O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        var file = LogFile(try folder.file("log"), limit: LogFile.smallestLimit, header: "header")
        file.write("line")
        var bytes = [UInt8](repeating: 0, count: 100)
        let count = read(reader, &bytes, bytes.count)
        #expect(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self) == "header\nline\n")
    }
}
