// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(control): recvmsg sendto close

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// The server's state of one client of the control socket: a bounded number of bytes in both directions.
final class ControlClientConnection {
    /// The greatest number of bytes that wait for a client that does not read.
    static let greatestBacklog = 1 << 20
    /// A large answer continues when the backlog is smaller than this, in bytes.
    static let comfortableBacklog = 64 << 10
    /// The greatest number of requests of one client that run at once.
    static let greatestRequestCount = 8

    /// The result of reading.
    enum Input {
        /// Whole lines, without their newlines; possibly none.
        case lines([[UInt8]])
        /// A line is longer than a request may be.
        case tooLong
        /// The client sends nothing more; it may still read.
        case ended
        /// The connection has failed.
        case failed
    }

    let descriptor: OwnedFileDescriptor
    /// Whether the client may make changes, or only read.
    let mayChange: Bool
    var source: EventLoop.SourceID?
    /// Whether the loop watches the socket for writability.
    var watchesWriting = false
    /// Whether to close once everything is written.
    var closesWhenWritten = false
    /// Whether the client sends nothing more.
    var hasEnded = false
    /// The tasks of running requests.
    var requests: [Int: Task<Void, Never>] = [:]
    var lastRequest = 0
    /// The tasks that wait until the backlog is small.
    var waiting: [CheckedContinuation<Void, Never>] = []
    private var input: [UInt8] = []
    private var output: [UInt8] = []
    private var written = 0
    private var received: CInt = -1

    init(descriptor: consuming OwnedFileDescriptor, mayChange: Bool) {
        self.descriptor = descriptor
        self.mayChange = mayChange
    }

    deinit {
        if received >= 0 { Glibc.close(received) }
    }

    /// Bytes that wait to be written.
    var backlog: Int { output.count - written }

    /// Removes and returns the descriptor that came with the requests so far, if there is one.
    func takeDescriptor() -> OwnedFileDescriptor? {
        guard received >= 0 else { return nil }
        defer { received = -1 }
        return OwnedFileDescriptor(taking: received)
    }

    /// Reads all available bytes.
    func read() -> Input {
        var buffer: [UInt8] = .init(repeating: 0, count: 16_384)
        let number = descriptor.rawValue
        var lines: [[UInt8]] = []
        while true {
            var passed: CInt = -1
            var count: CInt = 0
            let result = transferring {
                unsafe buffer.withUnsafeMutableBytes {
                    unsafe tapas_receive_descriptors(number, $0.baseAddress, $0.count, &passed, 1, &count)
                }
            }
            if count > 0 {
                if received >= 0 { Glibc.close(received) }
                received = passed
            }
            switch result {
            case .wouldBlock: return .lines(lines)
            case .failed: return .failed
            case .bytes(0): return lines.isEmpty ? .ended : .lines(lines)
            case .bytes(let count):
                input += buffer[..<count]
                while let end = input.firstIndex(of: 0x0A) {
                    guard end <= ControlRequest.greatestLength else { return .tooLong }
                    lines.append(Array(input[..<end]))
                    input.removeSubrange(...end)
                }
                guard input.count <= ControlRequest.greatestLength else { return .tooLong }
                // The rest of a busy client's requests wait in the socket.
                if lines.count >= Self.greatestRequestCount { return .lines(lines) }
            }
        }
    }

    /// Appends a line to the backlog.
    func append(_ line: [UInt8]) {
        if written > Self.comfortableBacklog {
            output.removeFirst(written)
            written = 0
        }
        output += line
    }

    /// Removes the lines of which nothing was written yet.
    func dropUnwrittenLines() {
        let rest = output[written...]
        // A partly written line began where the line before it ended.
        let isUnderWay = written > 0 && output[written - 1] != 0x0A
        let end = isUnderWay ? rest.firstIndex(of: 0x0A).map { $0 + 1 } ?? output.count : written
        output.removeSubrange(end...)
    }

    /// Writes as much as the socket accepts.
    ///
    /// - Returns: False if the connection has failed.
    func write() -> Bool {
        let number = descriptor.rawValue
        while written < output.count {
            let result = transferring {
                unsafe output.withUnsafeBytes {
                    unsafe send(
                        number, $0.baseAddress?.advanced(by: written), $0.count - written,
                        CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
                }
            }
            switch result {
            case .bytes(let count): written += count
            case .wouldBlock: return true
            case .failed: return false
            }
        }
        output.removeAll(keepingCapacity: output.count <= Self.comfortableBacklog)
        written = 0
        return true
    }
}
