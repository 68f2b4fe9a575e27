// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(data-path): recvmmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage
internal import Wire

extension DataPath {
    /// The greatest length of a UDP datagram: IPv4 counts its header in the packet's length, IPv6 does not.
    static func largestDatagram(isIPv4: Bool) -> Int {
        65535 - (isIPv4 ? IPv4Header.length : 0) - UDPHeader.length
    }
}

/// The memory into which several datagrams are received with one call.
///
/// Each datagram has a place of 64 KiB with room for headers before it; untouched pages cost nothing.
@safe
struct DatagramBatch: ~Copyable {
    let capacity: Int
    private let arena: UnsafeMutableRawPointer
    private let messages: UnsafeMutablePointer<tapas_message>
    private let vectors: UnsafeMutablePointer<iovec>
    private let names: UnsafeMutablePointer<sockaddr_storage>
    private let stride = 65536 + DataPath.Size.headroom

    init(capacity: Int) {
        self.capacity = capacity
        unsafe arena = .allocate(byteCount: capacity * stride, alignment: 4096)
        unsafe messages = .allocate(capacity: capacity)
        unsafe vectors = .allocate(capacity: capacity)
        unsafe names = .allocate(capacity: capacity)
        unsafe names.initialize(repeating: sockaddr_storage(), count: capacity)
        for index in 0..<capacity {
            unsafe vectors[index] = unsafe iovec(
                iov_base: arena + index * stride + DataPath.Size.headroom, iov_len: 65536)
            var message = unsafe tapas_message()
            unsafe message.header.msg_iov = unsafe vectors + index
            unsafe message.header.msg_iovlen = 1
            unsafe (messages + index).initialize(to: message)
        }
    }

    deinit {
        unsafe arena.deallocate()
        unsafe messages.deallocate()
        unsafe vectors.deallocate()
        unsafe names.deallocate()
    }

    /// Receives as many datagrams as are queued and fit.
    func receive(_ number: CInt) -> IOResult {
        transferring { unsafe Int(tapas_recvmmsg(number, messages, UInt32(capacity), CInt(MSG_DONTWAIT))) }
    }

    /// As ``receive(_:)``, with the sources.
    func receiveWithSources(_ number: CInt) -> IOResult {
        for index in 0..<capacity {
            unsafe messages[index].header.msg_name = UnsafeMutableRawPointer(names + index)
            unsafe messages[index].header.msg_namelen = socklen_t(MemoryLayout<sockaddr_storage>.size)
        }
        let result = receive(number)
        for index in 0..<capacity {
            unsafe messages[index].header.msg_name = nil
            unsafe messages[index].header.msg_namelen = 0
        }
        return result
    }

    /// The source of a datagram, after ``receiveWithSources(_:)``.
    func source(_ index: Int) -> Endpoint? {
        unsafe Endpoint(names + index)
    }

    /// The length of a datagram that was received.
    func length(_ index: Int) -> Int {
        unsafe Int(messages[index].length)
    }

    /// The address of a datagram, with ``DataPath/Size/headroom`` bytes free before it.
    func payload(_ index: Int) -> UnsafeMutableRawPointer {
        unsafe arena + index * stride + DataPath.Size.headroom
    }
}
