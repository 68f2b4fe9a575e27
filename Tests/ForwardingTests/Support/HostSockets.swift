// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import NetworkTypes
import Testing

@testable import Forwarding

/// A socket of the test on the host's loopback, without waiting.
final class HostEnd {
    let number: CInt
    private var isOpen = true

    init(_ number: CInt) { self.number = number }

    deinit { if isOpen { close(number) } }

    /// A socket of the family's loopback on a port of the kernel's choice.
    init(_ family: AddressFamily, type: CInt, port: UInt16 = 0) throws {
        let domain = family == .v4 ? AF_INET : AF_INET6
        number = socket(domain, type | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        try #require(number >= 0)
        let address: IPv6Address = family == .v4 ? IPv6Address(mapping: .loopback) : .loopback
        try Endpoint(address: address, port: port).bind(number)
    }

    /// A TCP server.
    static func listener(_ family: AddressFamily = .v4, backlog: CInt = 128) throws -> HostEnd {
        let end = try HostEnd(family, type: HostSocket.stream)
        try #require(listen(end.number, backlog) == 0)
        return end
    }

    /// A UDP socket.
    static func datagram(_ family: AddressFamily = .v4) throws -> HostEnd {
        try HostEnd(family, type: HostSocket.datagram)
    }

    /// A port on which nobody listens: was free a moment ago.
    static func closedPort(_ family: AddressFamily = .v4, type: CInt = HostSocket.stream) throws -> UInt16 {
        try HostEnd(family, type: type).port
    }

    var port: UInt16 { HostSocket.localEndpoint(number)?.port ?? 0 }

    /// A connection that has been accepted; nil if none waits.
    func accept() -> HostEnd? {
        let accepted = Glibc.accept(number, nil, nil)
        guard accepted >= 0 else { return nil }
        // Not for the programs that other tests start: the connection would stay open as long as they run.
        _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
        return HostEnd(accepted)
    }

    /// What there is to read; nil at the end of the stream or on error.
    func read(upTo limit: Int = 1 << 18) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: limit)
        let count = recv(number, &bytes, limit, CInt(MSG_DONTWAIT))
        if count > 0 { return Array(bytes[..<count]) }
        if count == 0 { return nil }
        lastError = errno
        return lastError == EAGAIN ? [] : nil
    }

    /// The errno that ended ``read(upTo:)``, or 0 for the end of the stream.
    private(set) var lastError: CInt = 0

    /// Writes what the socket takes.
    func write(_ bytes: some Collection<UInt8>) -> Int {
        let bytes = Array(bytes)
        return max(0, send(number, bytes, bytes.count, CInt(MSG_NOSIGNAL | MSG_DONTWAIT)))
    }

    /// One datagram and its sender; nil if none waits.
    func receive() -> (bytes: [UInt8], from: Endpoint)? {
        var bytes = [UInt8](repeating: 0, count: 65536)
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let storage = UnsafeMutableRawPointer.allocate(byteCount: Int(length), alignment: 8)
        defer { storage.deallocate() }
        let count = recvfrom(
            number, &bytes, bytes.count, CInt(MSG_DONTWAIT), storage.assumingMemoryBound(to: sockaddr.self), &length)
        guard count >= 0, let sender = Endpoint(storage.assumingMemoryBound(to: sockaddr_storage.self)) else {
            return nil
        }
        return (Array(bytes[..<count]), sender)
    }

    /// Makes a datagram socket's peer; the kernel then keeps to it.
    func connect(to endpoint: Endpoint) { #expect(throws: Never.self) { try endpoint.connect(number) } }

    /// No more is sent.
    func finish() { shutdown(number, CInt(SHUT_WR)) }

    /// Ends with FIN, or RST if something is unread.
    func end() {
        if isOpen { close(number) }
        isOpen = false
    }

    /// Ends with RST.
    func reset() {
        if isOpen { HostSocket.abort(number) }
        isOpen = false
    }

    func set(_ level: CInt, _ option: CInt, _ value: CInt) { HostSocket.setIfPossible(number, level, option, value) }
}
