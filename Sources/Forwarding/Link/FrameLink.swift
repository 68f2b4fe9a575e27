// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A link carries Ethernet frames between the guest (a network namespace, or a virtual machine) and the data path. The
// data path knows no more of it than this protocol says: it takes frames out one after the other, hands frames in, and
// asks for what the link can do. `GuestLink` is the closed set of links that there are; it chooses among them with a
// switch, so that the calls are direct ones (docs/decisions/0012-the-link.md, which also says how a stream socket and
// vhost-user fit).
//
// Memory: what `receive` gives lies in the arena until the batch has been handled, since the data path sends payload
// from there. What `transmit` is given may be used for something else once the call returns; before a frame there are
// `DataPath.Size.headroom` bytes which the link may overwrite with what it puts in front of a frame.

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

    /// Each frame has a virtio-net header in front (a tap's `IFF_VNET_HDR`); what follows needs it.
    public static let header = LinkCapabilities(rawValue: 1)
    /// Checksums may be owed in both directions (`TUN_F_CSUM`).
    public static let checksum = LinkCapabilities(rawValue: 2)
    /// TCP super-frames of both families (`TUN_F_TSO4`, `TUN_F_TSO6`).
    public static let tcpSegmentation = LinkCapabilities(rawValue: 4)
    /// UDP super-frames of both families (`TUN_F_USO4`, `TUN_F_USO6`).
    public static let udpSegmentation = LinkCapabilities(rawValue: 8)
    /// The guest may leave frames waiting, so that the data path has to wait for it (``FrameLink/canTransmit``).
    ///
    /// A tap's kernel takes every frame, or drops it.
    public static let backPressure = LinkCapabilities(rawValue: 16)
    /// The link has a carrier that can be switched (``FrameLink/setCarrier(_:)``).
    public static let carrier = LinkCapabilities(rawValue: 32)

    /// Everything that is said of checksums and segmentation.
    public static let offloads: LinkCapabilities = [.header, .checksum, .tcpSegmentation, .udpSegmentation]
}

/// What a link gave when it was asked for a frame.
@safe
enum ReceivedFrame {
    /// A frame in the arena, and what its header says; a header that says nothing where the link has none.
    case frame(UnsafeMutableRawPointer, count: Int, VirtioNetHeader)
    /// Something too short to be a frame.
    case truncated
    /// Nothing at present.
    case empty
    /// The guest's end is gone, for good.
    case gone
}

/// A way for frames to and from the guest.
protocol FrameLink: ~Copyable {
    /// What the link can do.
    var capabilities: LinkCapabilities { get }

    /// The guest's hardware address, if the link knows it before the first frame.
    var hardwareAddress: MACAddress? { get }

    /// Has the loop watch the link's descriptors, each with a token of kind ``TokenKind/link``; from then on the data
    /// path asks for frames when one of them is ready.
    ///
    /// - Throws: The error of epoll_ctl(2).
    func watch(on loop: EventLoop) throws(SystemCallError)

    /// Takes the descriptors from the loop again: the link is gone.
    func unwatch(on loop: EventLoop)

    /// Takes note of an event of the link's descriptors, before frames are asked for.
    func ready(_ token: EventToken, _ readiness: Readiness)

    /// Whether there is something to be asked for of which no event will tell.
    var hasMore: Bool { get }

    /// Takes the next frame that the guest has sent into the arena.
    func receive(into arena: inout FrameArena) -> ReceivedFrame

    /// Whether there is room for ``DataPath/Size/segments`` frames of the largest size. False while the guest leaves too
    /// much waiting (``LinkCapabilities/backPressure``): what is not sent then stays in the host's sockets, and the
    /// link's descriptor becomes ready when it can go on.
    var canTransmit: Bool { get }

    /// Sends a frame.
    ///
    /// - Returns: False if the link did not take it.
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool

    /// Sends a frame that lies in several pieces, of which the first has all headers and room before it; the link may
    /// change the first piece.
    ///
    /// - Returns: False if the link did not take it.
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool

    /// Sends what the link has gathered: the turn is over.
    func flush()

    /// Whether the guest has gone since the last call, and another one may come.
    func takeLostGuest() -> Bool

    /// Switches the carrier (``LinkCapabilities/carrier``), on which a DHCP client asks again. Does nothing on a link
    /// that has none.
    ///
    /// - Throws: The error of the system call.
    func setCarrier(_ isOn: Bool) throws(SystemCallError)

    /// Whether the guest's programs have been told that there is a carrier; nil if that is unknown.
    var showsCarrier: Bool? { get }
}

/// The memory that a batch of frames lies in until it has been handled.
@safe
struct FrameArena: ~Copyable {
    private let memory: UnsafeMutableRawPointer
    /// The bytes that the batch has taken so far.
    private(set) var used = 0

    /// The longest frame that there is room for, its header included.
    static var frameLimit: Int { DataPath.Size.frame }

    /// All that lies behind ``next`` at the beginning of a batch; a link may fill it at once.
    static var capacity: Int { DataPath.Size.batch + frameLimit }

    init() {
        unsafe memory = .allocate(byteCount: Self.capacity, alignment: 4096)
    }

    deinit { unsafe memory.deallocate() }

    /// Where the next frame is to lie; there is room for ``frameLimit`` bytes as long as ``isFull`` is false.
    @inline(__always)
    var next: UnsafeMutableRawPointer { unsafe memory + used }

    /// Whether the batch is to end.
    @inline(__always)
    var isFull: Bool { used > DataPath.Size.batch }

    /// Keeps what lies at ``next``.
    @inline(__always)
    mutating func keep(_ count: Int) { used += (count + 63) & ~63 }

    /// Begins a new batch: nothing that was kept is needed any more.
    @inline(__always)
    mutating func reset() { used = 0 }
}

extension FrameLink where Self: ~Copyable {
    // What a link does that reads, and sends, frame by frame, and whose guest stays the same.
    @inline(__always)
    func ready(_ token: EventToken, _ readiness: Readiness) {}

    @inline(__always)
    var hasMore: Bool { false }

    @inline(__always)
    func flush() {}

    @inline(__always)
    func takeLostGuest() -> Bool { false }

    /// The bytes in front of each frame.
    @inline(__always)
    var headerLength: Int { capabilities.contains(.header) ? VirtioNetHeader.length : 0 }

    /// Takes the header off what lies at the arena's next place, and keeps it.
    @inline(__always)
    func takeFrame(_ count: Int, in arena: inout FrameArena) -> ReceivedFrame {
        let start = unsafe arena.next
        arena.keep(count)
        guard capabilities.contains(.header) else { return unsafe .frame(start, count: count, VirtioNetHeader()) }
        guard let header = try? VirtioNetHeader(unsafe DataPath.bytes(start, min(count, VirtioNetHeader.length))) else {
            return .truncated
        }
        return unsafe .frame(start + VirtioNetHeader.length, count: count - VirtioNetHeader.length, header)
    }

    /// Writes the header in front of a frame.
    ///
    /// - Returns: Where what is to be sent begins.
    @inline(__always)
    func putHeader(_ header: VirtioNetHeader, before frame: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        guard capabilities.contains(.header) else { return unsafe frame }
        let start = unsafe frame - VirtioNetHeader.length
        var span = unsafe MutableSpan(
            _unsafeStart: start.assumingMemoryBound(to: UInt8.self), count: VirtioNetHeader.length)
        header.write(into: &span)
        return unsafe start
    }

    /// Writes the header in front of the first of several pieces, and makes it part of that.
    @inline(__always)
    func putHeader(_ header: VirtioNetHeader, before pieces: UnsafeMutablePointer<iovec>) {
        guard let frame = unsafe pieces[0].iov_base else { return }
        unsafe pieces[0].iov_base = putHeader(header, before: frame)
        unsafe pieces[0].iov_len += headerLength
    }
}
