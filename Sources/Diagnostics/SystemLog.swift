// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): socket connect getpid
// syscalls: running(any): close sendto

internal import Glibc
internal import LinuxSystem
public import Logging

/// The system's log (syslog(3)): datagrams to /dev/log, facility daemon.
///
/// The socket is connected at once, since the path is out of reach later.
public struct SystemLog: ~Copyable, Sendable {
    private static let facility = 3 << 3  // LOG_DAEMON

    private let socket: OwnedFileDescriptor

    /// Connects to the system's log; nil if there is none.
    public init?(path: String = "/dev/log") {
        let number = Glibc.socket(
            AF_UNIX, CInt(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        guard number >= 0 else { return nil }
        let socket = OwnedFileDescriptor(taking: number)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let result = unsafe withUnsafePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe connect(number, $0, size) }
        }
        guard result == 0 else { return nil }
        self.socket = socket
    }

    /// Sends a message; one that the log does not take at once is lost.
    public func send(_ level: Logger.Level, program: String, _ message: String) {
        let bytes = Array("<\(Self.facility | Self.severity(level))>\(program)[\(getpid())]: \(message)".utf8)
        let number = socket.rawValue
        _ = transferring { unsafe Glibc.send(number, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }
    }

    /// The severity of syslog(3).
    static func severity(_ level: Logger.Level) -> Int {
        switch level {
        case .trace, .debug: 7
        case .info: 6
        case .notice: 5
        case .warning: 4
        case .error: 3
        case .critical: 2
        }
    }
}
