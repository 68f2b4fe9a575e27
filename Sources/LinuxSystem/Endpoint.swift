// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): bind connect
// syscalls: running(data-path, ports): bind connect

package import CLinux
internal import Glibc
public import NetworkTypes

/// An address and port on the host, for either family's sockets: IPv4 in mapped form.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// The address; IPv4 in mapped form.
    public var address: IPv6Address
    /// The port.
    public var port: UInt16
    /// The interface that a link-local address belongs to (`sin6_scope_id`), or 0.
    public var scope: UInt32 = 0

    /// Whose sockets the address is for.
    public var family: AddressFamily { address.isIPv4Mapped ? .v4 : .v6 }

    /// `192.0.2.1:80`, `[2001:db8::1]:80`.
    public var description: String {
        switch IPAddress(unmapping: address) {
        case .v4(let v4): "\(v4):\(port)"
        case .v6(let v6): "[\(v6)\(scope == 0 ? "" : "%\(scope)")]:\(port)"
        }
    }

    /// connect(2): 0, or -1 and errno.
    public func connect(_ number: CInt) -> CInt {
        unsafe withSockaddr { unsafe Glibc.connect(number, $0, $1) }
    }

    /// bind(2): 0, or -1 and errno.
    public func bind(_ number: CInt) -> CInt {
        unsafe withSockaddr { unsafe Glibc.bind(number, $0, $1) }
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
        var storage = sockaddr_in6()
        storage.sin6_family = sa_family_t(AF_INET6)
        storage.sin6_port = port.bigEndian
        unsafe withUnsafeMutableBytes(of: &storage.sin6_addr) { bytes in
            unsafe bytes.storeBytes(of: address.high.bigEndian, toByteOffset: 0, as: UInt64.self)
            unsafe bytes.storeBytes(of: address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        storage.sin6_scope_id = scope
        return unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in6>.size))
            }
        }
    }

    /// Makes an endpoint; `scope` is the interface's index of a link-local address, or 0.
    public init(address: IPv6Address, port: UInt16, scope: UInt32 = 0) {
        self.address = address
        self.port = port
        self.scope = scope
    }

    /// Reads what the kernel wrote; nil for other families.
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
}
