// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(ports): recvmmsg sendmmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// Several datagrams received with one call, each with its source and destination.
///
/// They can be forwarded from the same memory.
@safe
struct MessageBatch: ~Copyable {
    /// The destination of a datagram (`IP_PKTINFO`, `IPV6_PKTINFO`).
    struct Destination: Equatable {
        /// The address in the packet, IPv4 in mapped form.
        var address: IPv6Address
        /// The interface that it arrived on.
        var interface: UInt32
    }

    let capacity: Int
    private let arena: UnsafeMutableRawPointer
    private let controls: UnsafeMutableRawPointer
    private let names: UnsafeMutablePointer<sockaddr_storage>
    private let vectors: UnsafeMutablePointer<iovec>
    private let messages: UnsafeMutablePointer<tapas_message>
    private let outgoing: UnsafeMutablePointer<tapas_message>
    private let stride = 65536
    private let controlLength = 128

    init(capacity: Int) {
        self.capacity = capacity
        unsafe arena = .allocate(byteCount: capacity * stride, alignment: 4096)
        unsafe controls = .allocate(byteCount: capacity * controlLength, alignment: 16)
        unsafe names = .allocate(capacity: capacity)
        unsafe vectors = .allocate(capacity: capacity)
        unsafe messages = .allocate(capacity: capacity)
        unsafe outgoing = .allocate(capacity: capacity)
        for index in 0..<capacity {
            unsafe (names + index).initialize(to: sockaddr_storage())
            unsafe (vectors + index).initialize(
                to: iovec(iov_base: arena + index * stride, iov_len: 65536))
            unsafe (messages + index).initialize(to: tapas_message())
            var message = unsafe tapas_message()
            unsafe message.header.msg_iov = unsafe vectors + index
            unsafe message.header.msg_iovlen = 1
            unsafe (outgoing + index).initialize(to: message)
        }
    }

    deinit {
        unsafe arena.deallocate()
        unsafe controls.deallocate()
        unsafe names.deallocate()
        unsafe vectors.deallocate()
        unsafe messages.deallocate()
        unsafe outgoing.deallocate()
    }

    /// Receives as many datagrams as are queued and fit.
    func receive(_ number: CInt) -> IOResult {
        for index in 0..<capacity {
            unsafe vectors[index].iov_len = 65536
            unsafe messages[index].header.msg_iov = unsafe vectors + index
            unsafe messages[index].header.msg_iovlen = 1
            unsafe messages[index].header.msg_name = UnsafeMutableRawPointer(names + index)
            unsafe messages[index].header.msg_namelen = socklen_t(MemoryLayout<sockaddr_storage>.size)
            unsafe messages[index].header.msg_control = unsafe controls + index * controlLength
            unsafe messages[index].header.msg_controllen = controlLength
            unsafe messages[index].header.msg_flags = 0
        }
        return transferring { unsafe Int(tapas_recvmmsg(number, messages, UInt32(capacity), CInt(MSG_DONTWAIT))) }
    }

    /// Sends the first `count` received datagrams on a connected socket; the result says how many it accepted.
    func send(_ number: CInt, count: Int) -> IOResult {
        for index in 0..<count { unsafe vectors[index].iov_len = Int(messages[index].length) }
        return transferring {
            unsafe Int(tapas_sendmmsg(number, outgoing, UInt32(count), CInt(MSG_DONTWAIT | MSG_NOSIGNAL)))
        }
    }

    /// The length of a datagram.
    func length(_ index: Int) -> Int {
        unsafe Int(messages[index].length)
    }

    /// The address of a datagram.
    func payload(_ index: Int) -> UnsafeMutableRawPointer {
        unsafe arena + index * stride
    }

    /// The sender of a datagram.
    func source(_ index: Int) -> Endpoint? {
        unsafe Endpoint(names + index)
    }

    /// The destination of a datagram; for IPv4 broadcasts and multicasts, our own address on that link.
    func destination(_ index: Int) -> Destination? {
        var result: Destination?
        var header = unsafe tapas_cmsg_first(&messages[index].header)
        while let present = unsafe header {
            let level = unsafe present.pointee.cmsg_level
            let type = unsafe present.pointee.cmsg_type
            if let data = unsafe tapas_cmsg_data(present) {
                if level == CInt(IPPROTO_IPV6), type == IPV6_PKTINFO {
                    let high = unsafe data.loadUnaligned(fromByteOffset: 0, as: UInt64.self)
                    let low = unsafe data.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
                    let interface = unsafe data.loadUnaligned(fromByteOffset: 16, as: UInt32.self)
                    let address = IPv6Address(high: UInt64(bigEndian: high), low: UInt64(bigEndian: low))
                    result = result ?? Destination(address: address, interface: interface)
                }
                if level == CInt(IPPROTO_IP), type == IP_PKTINFO {
                    // struct in_pktinfo: interface, our address, the address in the packet.
                    let interface = unsafe data.loadUnaligned(fromByteOffset: 0, as: UInt32.self)
                    let own = unsafe data.loadUnaligned(fromByteOffset: 4, as: UInt32.self)
                    let address = IPv4Address(rawValue: UInt32(bigEndian: own))
                    return Destination(address: IPv6Address(mapping: address), interface: interface)
                }
            }
            unsafe header = tapas_cmsg_next(&messages[index].header, present)
        }
        return result
    }
}
