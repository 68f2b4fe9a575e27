// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A link carries Ethernet frames between the guest (a network namespace, or a virtual machine) and the data path. The
// data path knows the link only by this protocol: it receives frames one after the other, transmits frames, and asks
// what the link can do. `GuestLink` is the closed set of links; it chooses among them with a switch, so that the calls
// are direct. (Decision 0012 also describes how a stream socket and vhost-user fit.)
//
// Memory: the frames that `receive` returns stay in the arena until the batch has been handled, since the data path
// sends payload from there. The memory passed to `transmit` may be reused once the call returns. Before a frame there
// are `DataPath.Size.headroom` bytes, which the link may overwrite with its header.

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import Wire

/// What a link can do.
public struct LinkCapabilities: OptionSet, Hashable, Sendable {
    /// The bits.
    public let rawValue: UInt8

    /// Makes a set from its bits.
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Each frame has a virtio-net header in front (a tap's `IFF_VNET_HDR`); the following capabilities need it.
    public static let header = LinkCapabilities(rawValue: 1)
    /// Checksums may be incomplete in both directions (`TUN_F_CSUM`).
    public static let checksum = LinkCapabilities(rawValue: 2)
    /// TCP super-frames of both families (`TUN_F_TSO4`, `TUN_F_TSO6`).
    public static let tcpSegmentation = LinkCapabilities(rawValue: 4)
    /// UDP super-frames of both families (`TUN_F_USO4`, `TUN_F_USO6`).
    public static let udpSegmentation = LinkCapabilities(rawValue: 8)
    /// The guest may leave frames waiting, so that the data path must wait for it (``FrameLink/canTransmit``).
    ///
    /// A tap's kernel accepts every frame, or drops it.
    public static let backPressure = LinkCapabilities(rawValue: 16)
    /// The link has a carrier that can be switched (``FrameLink/setCarrier(_:)``).
    public static let carrier = LinkCapabilities(rawValue: 32)

    /// All capabilities that concern checksums and segmentation.
    public static let offloads: LinkCapabilities = [.header, .checksum, .tcpSegmentation, .udpSegmentation]
}

/// The result of asking a link for a frame.
@safe
enum ReceivedFrame {
    /// A frame in the arena and its header, which is empty if the link has none.
    case frame(UnsafeMutableRawPointer, count: Int, VirtioNetHeader)
    /// Something too short to be a frame.
    case truncated
    /// Nothing at present.
    case empty
    /// The guest's end is closed for good.
    case gone
}

/// A link that carries frames to and from the guest.
protocol FrameLink: ~Copyable {
    /// What the link can do.
    var capabilities: LinkCapabilities { get }

    /// The guest's hardware address, if the link knows it before the first frame.
    var hardwareAddress: MACAddress? { get }

    /// Adds the link's descriptors to the loop, each with a token of kind ``TokenKind/link``.
    ///
    /// From then on the data path asks for frames when one of them is ready.
    ///
    /// - Throws: The error of epoll_ctl(2).
    func watch(on loop: EventLoop) throws(SystemCallError)

    /// Removes the descriptors from the loop, because the link is gone.
    func unwatch(on loop: EventLoop)

    /// Notes an event of the link's descriptors, before frames are received.
    func ready(_ token: EventToken, _ readiness: Readiness)

    /// Whether frames can be received that no event will announce.
    var hasMore: Bool { get }

    /// Receives the next frame from the guest into the arena.
    func receive(into arena: inout FrameArena) -> ReceivedFrame

    /// Whether there is room for ``DataPath/Size/segments`` frames of the greatest size.
    ///
    /// It is false while the guest leaves too much waiting (``LinkCapabilities/backPressure``). Data then stays in the
    /// host's sockets, and the link's descriptor becomes ready when there is room again.
    var canTransmit: Bool { get }

    /// Sends a frame.
    ///
    /// - Returns: False if the link did not accept it.
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool

    /// Sends a frame in several pieces; the first has all headers and room before it, and the link may change it.
    ///
    /// - Returns: False if the link did not accept it.
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool

    /// Sends the frames that the link has gathered, at the end of a turn.
    func flush()

    /// Whether the guest has gone since the last call, and another one may come.
    func takeLostGuest() -> Bool

    /// Whether a guest has come since the last call, over a link that outlives its guests.
    func takeNewGuest() -> Bool

    /// Switches the carrier (``LinkCapabilities/carrier``), which makes a DHCP client ask again.
    ///
    /// It does nothing on a link without a carrier.
    ///
    /// - Throws: The error of the system call.
    func setCarrier(_ isOn: Bool) throws(SystemCallError)

    /// Whether the guest's programs have been informed that there is a carrier; nil if that is unknown.
    var showsCarrier: Bool? { get }
}

/// The memory of a batch of frames, until the batch has been handled.
@safe
struct FrameArena: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    /// The number of bytes that the batch uses so far.
    private(set) var used = 0

    /// The greatest length of a frame, with its header.
    static var frameLimit: Int { DataPath.Size.frame }

    /// All that lies behind ``next`` at the beginning of a batch; a link may fill it at once.
    static var capacity: Int { DataPath.Size.batch + frameLimit }

    init() {
        unsafe memory = .allocate(byteCount: Self.capacity, alignment: 4096)
    }

    deinit { unsafe memory.deallocate() }

    /// The address for the next frame; it has room for ``frameLimit`` bytes as long as ``isFull`` is false.
    @inline(__always)
    var next: UnsafeMutableRawPointer { unsafe memory + used }

    /// Whether the batch should end.
    @inline(__always)
    var isFull: Bool { used > DataPath.Size.batch }

    /// Reserves the bytes at ``next`` for a frame.
    @inline(__always)
    mutating func commit(_ count: Int) { used += (count + 63) & ~63 }

    /// Begins a new batch; the frames of the last one are discarded.
    @inline(__always)
    mutating func reset() { used = 0 }
}

extension FrameLink where Self: ~Copyable {
    // The defaults fit a link that receives and sends frame by frame, and whose guest stays the same.
    @inline(__always)
    func ready(_ token: EventToken, _ readiness: Readiness) {}

    @inline(__always)
    var hasMore: Bool { false }

    @inline(__always)
    func flush() {}

    @inline(__always)
    func takeLostGuest() -> Bool { false }

    @inline(__always)
    func takeNewGuest() -> Bool { false }

    /// The length of the header in front of each frame, in bytes.
    @inline(__always)
    var headerLength: Int { capabilities.contains(.header) ? VirtioNetHeader.length : 0 }

    /// Removes the header from the bytes at the arena's next address, and reserves them.
    @inline(__always)
    func takeFrame(_ count: Int, in arena: inout FrameArena) -> ReceivedFrame {
        let start = unsafe arena.next
        arena.commit(count)
        guard capabilities.contains(.header) else { return unsafe .frame(start, count: count, VirtioNetHeader()) }
        guard let header = try? VirtioNetHeader(unsafe DataPath.bytes(start, min(count, VirtioNetHeader.length))) else {
            return .truncated
        }
        return unsafe .frame(start + VirtioNetHeader.length, count: count - VirtioNetHeader.length, header)
    }

    /// Writes the header in front of a frame.
    ///
    /// - Returns: The address at which the bytes to send begin.
    @inline(__always)
    func putHeader(_ header: VirtioNetHeader, before frame: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        guard capabilities.contains(.header) else { return unsafe frame }
        let start = unsafe frame - VirtioNetHeader.length
        var span = unsafe MutableSpan(
            _unsafeStart: start.assumingMemoryBound(to: UInt8.self), count: VirtioNetHeader.length)
        header.write(into: &span)
        return unsafe start
    }

    /// Writes the header in front of the first of several pieces, and makes it part of that piece.
    @inline(__always)
    func putHeader(_ header: VirtioNetHeader, before pieces: UnsafeMutablePointer<iovec>) {
        guard let frame = unsafe pieces[0].iov_base else { return }
        unsafe pieces[0].iov_base = putHeader(header, before: frame)
        unsafe pieces[0].iov_len += headerLength
    }
}
