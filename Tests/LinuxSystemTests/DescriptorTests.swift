// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import SystemPackage
import Testing

@Suite("Owned descriptors")
struct DescriptorTests {
    /// Whether all writers of a pipe have gone: a read then gives the end in place of EAGAIN.
    private static func hasEnded(_ reader: borrowing OwnedFileDescriptor) -> Bool {
        var byte: UInt8 = 0
        return read(reader.rawValue, &byte, 1) == 0
    }

    private static func pipeEnds() throws -> (reader: CInt, writer: CInt) {
        var numbers: [CInt] = [-1, -1]
        try #require(pipe(&numbers) == 0)
        for number in numbers { try #require(fcntl(number, F_SETFL, O_NONBLOCK) == 0) }
        return (numbers[0], numbers[1])
    }

    @Test("the descriptor is closed when its owner goes, and not before")
    func theDescriptorIsClosedWhenItsOwnerGoes() throws {
        let ends = try Self.pipeEnds()
        let reader = OwnedFileDescriptor(taking: ends.reader)
        do {
            let writer = OwnedFileDescriptor(taking: FileDescriptor(rawValue: ends.writer))
            let isOpen = !Self.hasEnded(reader)
            #expect(isOpen)
            #expect(writer.rawValue == ends.writer)
        }
        let isClosed = Self.hasEnded(reader)
        #expect(isClosed)
    }

    @Test("handing it on moves the end of its life")
    func handingItOn() throws {
        func keep(_ owner: consuming OwnedFileDescriptor, while body: () -> Void) { body() }
        let ends = try Self.pipeEnds()
        let reader = OwnedFileDescriptor(taking: ends.reader)
        let writer = OwnedFileDescriptor(taking: ends.writer)
        keep(writer) {
            let isOpen = !Self.hasEnded(reader)
            #expect(isOpen)
        }
        let isClosed = Self.hasEnded(reader)
        #expect(isClosed)
    }

    @Test("a released descriptor stays open")
    func aReleasedDescriptorStaysOpen() throws {
        let ends = try Self.pipeEnds()
        let reader = OwnedFileDescriptor(taking: ends.reader)
        let released = OwnedFileDescriptor(taking: ends.writer).release()
        let isOpen = !Self.hasEnded(reader)
        #expect(isOpen)
        try released.close()
        let isClosed = Self.hasEnded(reader)
        #expect(isClosed)
    }

    @Test("a duplicate is another descriptor of the same file, above standard error, not inherited")
    func aDuplicate() throws {
        let ends = try Self.pipeEnds()
        let reader = OwnedFileDescriptor(taking: ends.reader)
        let copy: OwnedFileDescriptor
        do {
            let writer = OwnedFileDescriptor(taking: ends.writer)
            copy = try writer.duplicate()
            #expect(copy.rawValue != writer.rawValue)
        }
        let isOpen = !Self.hasEnded(reader)
        #expect(isOpen)
        #expect(copy.rawValue >= 3)
        #expect(fcntl(copy.rawValue, F_GETFD) & FD_CLOEXEC != 0)
    }

    @Test("an opened file is not inherited; one that is absent is an error that names it")
    func anOpenedFileIsNotInherited() throws {
        let file = try OwnedFileDescriptor.open("/proc/self/status", .readOnly)
        #expect(fcntl(file.rawValue, F_GETFD) & FD_CLOEXEC != 0)
        let error = #expect(throws: SystemCallError.self) {
            _ = try OwnedFileDescriptor.open("/proc/self/no-such-file", .readOnly)
        }
        #expect(error == SystemCallError("open", "/proc/self/no-such-file", .noSuchFileOrDirectory))
    }
}

@Suite("Errors of system calls")
struct ErrorTests {
    @Test("say call, operand, text and symbol")
    func sayCallOperandTextAndSymbol() {
        #expect(
            SystemCallError("bind", "[::]:8080", .addressInUse).description
                == "bind([::]:8080): Address already in use (EADDRINUSE)")
        #expect(SystemCallError("fork", "", .resourceTemporarilyUnavailable).description.hasPrefix("fork(): "))
        #expect(SystemCallError("open", "/x", .permissionDenied).description == "open(/x): Permission denied (EACCES)")
        #expect(Errno(rawValue: 4095).symbol == "errno 4095")
        #expect(Errno.tooManyOpenFiles.symbol == "EMFILE")
    }

    @Test("an interrupted call is made again, and others throw what errno says")
    func anInterruptedCallIsMadeAgain() throws {
        var calls = 0
        let result = try retrying("read", "pipe") {
            calls += 1
            if calls < 4 {
                errno = EINTR
                return -1
            }
            return 17
        }
        #expect(result == 17 && calls == 4)
        let error = #expect(throws: SystemCallError.self) {
            try retrying("read", "pipe") { () -> Int in
                errno = EIO
                return -1
            }
        }
        #expect(error == SystemCallError("read", "pipe", .ioError))
    }

    @Test("a transfer is bytes, a call that would block, or an error; interruptions are not seen")
    func aTransfer() {
        func transfer(_ results: (Int, CInt)...) -> IOResult {
            var rest = results[...]
            return transferring {
                let (result, number) = rest.removeFirst()
                errno = number
                return result
            }
        }
        #expect(transfer((5, 0)) == .bytes(5))
        #expect(transfer((0, 0)) == .bytes(0))
        #expect(transfer((-1, EINTR), (-1, EINTR), (3, 0)) == .bytes(3))
        #expect(transfer((-1, EAGAIN)) == .wouldBlock)
        #expect(transfer((-1, EINTR), (-1, ECONNRESET)) == .failed(.connectionReset))
    }
}

@Suite("Monotonic time")
struct MonotonicTimeTests {
    @Test("moves by milliseconds and compares; the clock does not go back")
    func movesAndCompares() {
        let time = MonotonicTime(nanoseconds: 5_000_000)
        #expect(time.advanced(milliseconds: 3).nanoseconds == 8_000_000)
        #expect(time.advanced(milliseconds: 3).milliseconds(since: time) == 3)
        #expect(MonotonicTime(nanoseconds: 5_999_999).milliseconds(since: time) == 0)
        #expect(time < time.advanced(milliseconds: 1))
        var last = MonotonicTime.now
        for _ in 0..<1000 {
            let now = MonotonicTime.now
            #expect(now >= last)
            last = now
        }
        #expect(MonotonicTime.sinceBoot >= last, "sleep counts, on top")
    }
}
