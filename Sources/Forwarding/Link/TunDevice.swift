// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A tun device carries IP packets without an Ethernet header. The data path works with frames. So this link puts an
// Ethernet header with fixed addresses in front of received packets, and removes the header of sent frames. There is no
// ARP on such a link; frames that contain no IP packet are dropped. If the device has `IFF_VNET_HDR`, the positions in
// that header count from the start of the packet, and the link adds the length of the Ethernet header to them.
//
// syscalls: setup(main): fcntl
// syscalls: running(data-path): readv writev

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
public import SystemPackage
internal import Wire

/// A tun device that another program has made and configured: IP packets without an Ethernet header.
@safe
public struct TunDevice: ~Copyable, Sendable {
    /// The address that stands for the guest, which has none.
    static let guestAddress = MACAddress(0x9A, 0x55, 0x9A, 0x55, 0x9A, 0x01)

    /// The interface's name.
    public let name: String
    /// What the device can do.
    public let capabilities: LinkCapabilities
    private let owner: OwnedFileDescriptor
    /// The virtio-net header of a packet; only the data path's thread uses it.
    private nonisolated(unsafe) let header: UnsafeMutableRawPointer
    /// The header and a packet's pieces; only the data path's thread uses them.
    private nonisolated(unsafe) let vectors: UnsafeMutablePointer<iovec>
    /// The pieces that a frame may have.
    private static let pieces = 128

    /// Takes a tun device as it is.
    ///
    /// - Parameters:
    ///   - tun: the open device, with `IFF_NO_PI`.
    ///   - name: the interface's name.
    ///   - hasHeader: whether packets have a virtio-net header (`IFF_VNET_HDR`).
    /// - Throws: The error of an ioctl.
    init(handedOver tun: consuming OwnedFileDescriptor, name: String, hasHeader: Bool) throws(SystemCallError) {
        let number = tun.rawValue
        var capabilities: LinkCapabilities = []
        if hasHeader { capabilities = [.header, try TapDevice.offloads(of: number)] }
        try retrying("fcntl", "O_NONBLOCK") { tapas_set_nonblocking(number, 1) }
        owner = tun
        self.capabilities = capabilities
        self.name = name
        unsafe header = .allocate(byteCount: VirtioNetHeader.length, alignment: 8)
        unsafe vectors = .allocate(capacity: Self.pieces + 1)
    }

    deinit {
        unsafe header.deallocate()
        unsafe vectors.deallocate()
    }

    /// The descriptor, lent.
    public var descriptor: FileDescriptor { owner.descriptor }
}

extension TunDevice: FrameLink {
    var hardwareAddress: MACAddress? { Self.guestAddress }

    func watch(on loop: EventLoop) throws(SystemCallError) {
        try loop.add(descriptor, for: .readable, token: EventToken(kind: TokenKind.link))
    }

    func unwatch(on loop: EventLoop) { loop.remove(descriptor) }

    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        let number = owner.rawValue
        let frame = unsafe arena.next
        let packet = unsafe frame + EthernetHeader.length
        unsafe vectors[0] = unsafe iovec(iov_base: header, iov_len: headerLength)
        unsafe vectors[1] = unsafe iovec(
            iov_base: packet, iov_len: FrameArena.frameLimit - EthernetHeader.length)
        var count = 0
        switch transferring({ unsafe readv(number, vectors, 2) }) {
        case .bytes(let bytes) where bytes > 0: count = bytes - headerLength
        case .wouldBlock: return .empty
        case .bytes, .failed: return .gone
        }
        guard count > 0 else { return .truncated }
        let isIPv4 = unsafe packet.load(as: UInt8.self) >> 4 == 4
        var span = unsafe MutableSpan(
            _unsafeStart: frame.assumingMemoryBound(to: UInt8.self), count: EthernetHeader.length)
        EthernetHeader(destination: .defaultGateway, source: Self.guestAddress, type: isIPv4 ? .ipv4 : .ipv6)
            .write(into: &span)
        arena.commit(EthernetHeader.length + count)
        var told = VirtioNetHeader()
        if capabilities.contains(.header), let read = try? VirtioNetHeader(unsafe DataPath.bytes(header, headerLength))
        {
            told = read.moved(by: EthernetHeader.length)
        }
        return unsafe .frame(frame, count: EthernetHeader.length + count, told)
    }

    var canTransmit: Bool { true }

    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool {
        unsafe vectors[1] = unsafe iovec(iov_base: frame, iov_len: count)
        return send(1, header)
    }

    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        precondition(count <= Self.pieces, "a frame in too many pieces")
        for position in 0..<count { unsafe vectors[position + 1] = unsafe pieces[position] }
        return send(count, header)
    }

    func setCarrier(_ isOn: Bool) {}

    var showsCarrier: Bool? { nil }

    /// Sends a frame without its Ethernet header; its pieces are the second and later entries of ``vectors``.
    private func send(_ pieces: Int, _ told: VirtioNetHeader) -> Bool {
        guard let frame = unsafe vectors[1].iov_base, unsafe vectors[1].iov_len >= EthernetHeader.length,
            let ethernet = try? EthernetHeader(unsafe DataPath.bytes(frame, EthernetHeader.length))
        else { return false }
        // There are no hardware addresses on this link, so announcements of them are dropped without being counted.
        guard ethernet.type == .ipv4 || ethernet.type == .ipv6 else { return true }
        unsafe vectors[1].iov_base = frame + EthernetHeader.length
        unsafe vectors[1].iov_len -= EthernetHeader.length
        unsafe vectors[0] = unsafe iovec(iov_base: header, iov_len: headerLength)
        if capabilities.contains(.header) {
            var span = unsafe MutableSpan(
                _unsafeStart: header.assumingMemoryBound(to: UInt8.self), count: VirtioNetHeader.length)
            told.moved(by: -EthernetHeader.length).write(into: &span)
        }
        let number = owner.rawValue
        if case .bytes = transferring({ unsafe tapas_writev(number, vectors, CInt(pieces + 1)) }) { return true }
        return false
    }
}

extension VirtioNetHeader {
    /// The header with `count` added to its positions.
    fileprivate func moved(by count: Int) -> VirtioNetHeader {
        var moved = self
        if flags.contains(.needsChecksum) { moved.checksumStart = UInt16(clamping: Int(checksumStart) + count) }
        if headerLength != 0 { moved.headerLength = UInt16(clamping: Int(headerLength) + count) }
        return moved
    }
}
