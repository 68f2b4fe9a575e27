// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(namespace): close fcntl ioctl socket
// syscalls: running(data-path): close ioctl read write writev

internal import CLinux
internal import Glibc
public import LinuxSystem
public import NetworkTypes
public import SystemPackage
internal import Wire

/// The tap: receives and sends frames, each behind a virtio-net header where the kernel supports that.
public struct TapDevice: ~Copyable, Sendable {
    /// The interface's name as the kernel chose it.
    public let name: String
    /// The capabilities that the kernel accepted.
    public let capabilities: LinkCapabilities
    private let owner: OwnedFileDescriptor
    /// A socket of the interface's network namespace, to ask for its state; nil where there is none.
    private let observer: OwnedFileDescriptor?
    /// The number of the observer, without ownership; -1 if there is none.
    private let observing: CInt

    /// Makes the interface in the network namespace in which `tun` was opened.
    ///
    /// It uses the best set of offloads that the kernel accepts: with USO, with TSO only, with a header only, without.
    ///
    /// - Parameters:
    ///   - tun: `/dev/net/tun`, opened for reading and writing in the target namespace.
    ///   - name: the interface's name, at most 15 bytes.
    /// - Throws: The error of `TUNSETIFF`: EBUSY if the name is taken, EPERM without `CAP_NET_ADMIN` there.
    public init(tun: consuming OwnedFileDescriptor, name: String) throws(SystemCallError) {
        let number = tun.rawValue
        var chosen: [CChar] = .init(repeating: 0, count: 16)
        var capabilities: LinkCapabilities = .carrier
        let plain = CShort(IFF_TAP | IFF_NO_PI)
        let withHeader = plain | CShort(IFF_VNET_HDR)
        if unsafe tapas_tun_set_interface(number, name, withHeader, &chosen) == 0 {
            capabilities.insert(.header)
            capabilities.formUnion(try Self.offloads(of: number))
        } else if currentErrno == .invalidArgument {
            try retrying("ioctl", "TUNSETIFF \(name)") { unsafe tapas_tun_set_interface(number, name, plain, &chosen) }
        } else {
            throw SystemCallError("ioctl", "TUNSETIFF \(name)", currentErrno)
        }
        try retrying("fcntl", "O_NONBLOCK") { tapas_set_nonblocking(number, 1) }
        owner = tun
        observing = socket(AF_INET, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        observer = observing >= 0 ? OwnedFileDescriptor(taking: FileDescriptor(rawValue: observing)) : nil
        self.capabilities = capabilities
        self.name = String(decoding: chosen.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Takes a tap that somebody else has made, as it is; its interface is left alone.
    ///
    /// - Parameters:
    ///   - tap: the open tap.
    ///   - name: the interface's name.
    ///   - hasHeader: whether frames have a virtio-net header (`IFF_VNET_HDR`).
    /// - Throws: The error of an ioctl.
    init(handedOver tap: consuming OwnedFileDescriptor, name: String, hasHeader: Bool) throws(SystemCallError) {
        let number = tap.rawValue
        var capabilities: LinkCapabilities = []
        if hasHeader { capabilities = [.header, try Self.offloads(of: number)] }
        try retrying("fcntl", "O_NONBLOCK") { tapas_set_nonblocking(number, 1) }
        owner = tap
        // The interface is in another network namespace than this program.
        observing = -1
        observer = nil
        self.capabilities = capabilities
        self.name = name
    }

    /// Takes over the tap of a process before this one, whose interface the kernel has kept.
    ///
    /// To be called on a thread in the interface's network namespace.
    ///
    /// - Parameter tap: the tap.
    /// - Throws: The error of an ioctl.
    public init(continuing tap: consuming OwnedFileDescriptor) throws(SystemCallError) {
        let number = tap.rawValue
        var chosen: [CChar] = .init(repeating: 0, count: 16)
        var flags: CShort = 0
        try retrying("ioctl", "TUNGETIFF") { unsafe tapas_tun_get_interface(number, &chosen, &flags) }
        var capabilities: LinkCapabilities = .carrier
        if CInt(flags) & CInt(IFF_VNET_HDR) != 0 {
            capabilities.insert(.header)
            capabilities.formUnion(try Self.offloads(of: number))
        }
        // It may have been off for a moment, to make a DHCP client ask again.
        _ = tapas_tun_set_carrier(number, 1)
        owner = tap
        observing = socket(AF_INET, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        observer = observing >= 0 ? OwnedFileDescriptor(taking: FileDescriptor(rawValue: observing)) : nil
        self.capabilities = capabilities
        name = String(decoding: chosen.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Chooses the best set of offloads that the kernel accepts for a device with `IFF_VNET_HDR`.
    ///
    /// - Throws: The error of `TUNSETVNETHDRSZ`.
    static func offloads(of number: CInt) throws(SystemCallError) -> LinkCapabilities {
        try retrying("ioctl", "TUNSETVNETHDRSZ") {
            tapas_tun_set_header_size(number, CInt(VirtioNetHeader.length))
        }
        let segmentation = UInt32(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6)
        if tapas_tun_set_offload(number, segmentation | tapas_tun_uso_flags()) == 0 {
            return [.checksum, .tcpSegmentation, .udpSegmentation]
        }
        if tapas_tun_set_offload(number, segmentation) == 0 { return [.checksum, .tcpSegmentation] }
        return tapas_tun_set_offload(number, UInt32(TUN_F_CSUM)) == 0 ? .checksum : []
    }

    /// The interface's hardware address at present; nil if the interface is gone.
    public var hardwareAddress: MACAddress? {
        var bytes: [6 of UInt8] = .init(repeating: 0)
        let number = owner.rawValue
        let result = unsafe withUnsafeMutableBytes(of: &bytes) {
            unsafe tapas_tun_get_mac(number, $0.baseAddress?.assumingMemoryBound(to: UInt8.self))
        }
        return result == 0 ? MACAddress(bytes: bytes) : nil
    }

    /// The descriptor; the tap keeps the ownership.
    public var descriptor: FileDescriptor { owner.descriptor }

    /// Switches the carrier (`TUNSETCARRIER`), which makes a DHCP client in the namespace ask again.
    ///
    /// - Throws: The error of the ioctl.
    public func setCarrier(_ isOn: Bool) throws(SystemCallError) {
        let number = owner.rawValue
        try retrying("ioctl", "TUNSETCARRIER") { tapas_tun_set_carrier(number, isOn ? 1 : 0) }
    }
}

extension TapDevice: FrameLink {
    func watch(on loop: EventLoop) throws(SystemCallError) {
        try loop.add(descriptor, for: .readable, token: EventToken(kind: TokenKind.link))
    }

    func unwatch(on loop: EventLoop) { loop.remove(descriptor) }

    @inline(__always)
    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        let number = owner.rawValue
        let start = unsafe arena.next
        switch transferring({ unsafe tapas_read(number, start, FrameArena.frameLimit) }) {
        case .bytes(let count): return count == 0 ? .gone : takeFrame(count, in: &arena)
        case .wouldBlock: return .empty
        case .failed: return .gone
        }
    }

    @inline(__always)
    var canTransmit: Bool { true }

    @inline(__always)
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool {
        let start = unsafe putHeader(header, before: frame)
        let number = owner.rawValue
        let total = headerLength + count
        if case .bytes = transferring({ unsafe tapas_write(number, start, total) }) { return true }
        return false
    }

    @inline(__always)
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        unsafe putHeader(header, before: pieces)
        let number = owner.rawValue
        if case .bytes = transferring({ unsafe tapas_writev(number, pieces, CInt(count)) }) { return true }
        return false
    }

    /// Whether the namespace's kernel has reported a carrier to its programs (`IFF_RUNNING`); nil if unknown.
    var showsCarrier: Bool? {
        guard observing >= 0 else { return nil }
        let result = unsafe name.withCString { unsafe tapas_interface_is_running(observing, $0) }
        return result < 0 ? nil : result == 1
    }
}
