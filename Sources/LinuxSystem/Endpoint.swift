// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): bind
// syscalls: running(data-path, ports): bind connect sendto; running(native-sockets): bind

package import CLinux
internal import Glibc
public import NetworkTypes
public import SystemPackage

/// An address and port on the host, for either family's sockets: IPv4 in mapped form.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// The address; IPv4 in mapped form.
    public var address: IPv6Address
    /// The port.
    public var port: UInt16
    /// The interface that a link-local address belongs to (`sin6_scope_id`), or 0.
    public var scope: UInt32 = 0

    /// The family of the sockets that the address is for.
    public var family: AddressFamily { address.isIPv4Mapped ? .v4 : .v6 }

    /// `192.0.2.1:80`, `[2001:db8::1]:80`.
    public var description: String {
        switch IPAddress(unmapping: address) {
        case .v4(let v4): "\(v4):\(port)"
        case .v6(let v6): "[\(v6)\(scope == 0 ? "" : "%\(scope)")]:\(port)"
        }
    }

    /// Connects a socket (connect(2)).
    ///
    /// - Parameters:
    ///   - number: the socket.
    ///   - mayGoOn: whether an unfinished connection attempt (EINPROGRESS) counts as success.
    /// - Throws: The error of connect(2).
    public func connect(_ number: CInt, mayGoOn: Bool = false) throws(Errno) {
        if unsafe withSockaddr({ unsafe Glibc.connect(number, $0, $1) }) == 0 { return }
        let error = currentErrno
        if mayGoOn, error == .nowInProgress { return }
        throw error
    }

    /// Binds a socket (bind(2)).
    ///
    /// - Throws: The error of bind(2).
    public func bind(_ number: CInt) throws(Errno) {
        if unsafe withSockaddr({ unsafe Glibc.bind(number, $0, $1) }) != 0 { throw currentErrno }
    }

    /// Sends a datagram to the endpoint without waiting, on a socket that is not connected.
    ///
    /// - Parameters:
    ///   - message: the payload.
    ///   - number: the socket. On a dual-stack socket (`AF_INET6`) an IPv4 destination is sent in mapped form.
    /// - Returns: The result of sendto(2).
    public func sendDualStack(_ message: [UInt8], on number: CInt) -> IOResult {
        var storage = sockaddr6
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                transferring {
                    unsafe sendto(
                        number, message, message.count, CInt(MSG_NOSIGNAL | MSG_DONTWAIT), address,
                        socklen_t(MemoryLayout<sockaddr_in6>.size))
                }
            }
        }
    }

    /// Calls `body` with the address as the kernel takes it: sockaddr_in for a mapped address, else sockaddr_in6.
    package func withSockaddr<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        if let v4 = address.mappedIPv4 {
            var storage = sockaddr_in()
            storage.sin_family = sa_family_t(AF_INET)
            storage.sin_port = port.bigEndian
            storage.sin_addr.s_addr = v4.rawValue.bigEndian
            return unsafe withUnsafePointer(to: &storage) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
        }
        var storage = sockaddr6
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }

    /// The endpoint as `struct sockaddr_in6`; IPv4 stays in mapped form.
    private var sockaddr6: sockaddr_in6 {
        var storage = sockaddr_in6()
        storage.sin6_family = sa_family_t(AF_INET6)
        storage.sin6_port = port.bigEndian
        unsafe withUnsafeMutableBytes(of: &storage.sin6_addr) { bytes in
            unsafe bytes.storeBytes(of: address.high.bigEndian, toByteOffset: 0, as: UInt64.self)
            unsafe bytes.storeBytes(of: address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        storage.sin6_scope_id = scope
        return storage
    }

    /// Makes an endpoint; `scope` is the interface's index of a link-local address, or 0.
    public init(address: IPv6Address, port: UInt16, scope: UInt32 = 0) {
        self.address = address
        self.port = port
        self.scope = scope
    }

    /// Reads an address that the kernel wrote; nil for families other than IPv4 and IPv6.
    package init?(_ storage: UnsafePointer<sockaddr_storage>) {
        switch unsafe CInt(storage.pointee.ss_family) {
        case AF_INET:
            let v4 = unsafe UnsafeRawPointer(storage).loadUnaligned(as: sockaddr_in.self)
            self.init(
                address: IPv6Address(mapping: IPv4Address(rawValue: UInt32(bigEndian: v4.sin_addr.s_addr))),
                port: UInt16(bigEndian: v4.sin_port))
        case AF_INET6:
            var v6 = unsafe UnsafeRawPointer(storage).loadUnaligned(as: sockaddr_in6.self)
            let address = unsafe withUnsafeBytes(of: &v6.sin6_addr) { bytes in
                IPv6Address(
                    high: unsafe UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
                    low: unsafe UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)))
            }
            self.init(address: address, port: UInt16(bigEndian: v6.sin6_port), scope: v6.sin6_scope_id)
        default:
            return nil
        }
    }

    /// Has a call write an address, as getsockname(2) and recvfrom(2) do.
    ///
    /// - Parameter call: calls the kernel with room for an address and its length.
    /// - Returns: The call's result, and the address; nil for families other than IPv4 and IPv6, or when none was
    ///   written.
    package static func written<Result>(
        by call: (UnsafeMutablePointer<sockaddr>, inout socklen_t) -> Result
    ) -> (result: Result, endpoint: Endpoint?) {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = unsafe withUnsafeMutablePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &length) }
        }
        return (result, unsafe Endpoint(&storage))
    }
}
