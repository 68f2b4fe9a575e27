// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): getpid sendto
// syscalls: running(any): getpid sendto

internal import CLinux
internal import Glibc
internal import LinuxSystem
public import Logging

/// The system's log (syslog(3)): datagrams to /dev/log, facility daemon.
///
/// The socket is connected at once, since the path cannot be reached later.
public struct SystemLog: ~Copyable, Sendable {
    private static let facility = 3 << 3  // LOG_DAEMON

    private let socket: OwnedFileDescriptor

    /// Connects to the system's log; nil if there is none.
    public init?(path: String = "/dev/log") {
        guard let address = UnixSocketAddress(path: path), let socket = Self.connected(to: address) else { return nil }
        self.socket = socket
    }

    private static func connected(to address: UnixSocketAddress) -> OwnedFileDescriptor? {
        do {
            let socket = try UnixSocketAddress.socket(.datagrams)
            try address.connect(socket.descriptor)
            return socket
        } catch {
            return nil
        }
    }

    /// Sends a message; it is lost if the log does not take it at once.
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
