// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import Wire

/// A link whose other end is a program on the same thread: a test plays the guest.
///
/// Each direction is a queue of bounded length in memory that is allocated once, so that a test can check that the data
/// path allocates nothing. There is no descriptor: the sender of the guest's frames also reports to the forwarder that
/// the link is ready.
@safe
final class MemoryLink: FrameLink {
    let capabilities: LinkCapabilities
    /// Frames of the guest that the data path has not received yet.
    private var fromGuest: FrameQueue
    /// Frames of the data path that the guest has not received yet.
    private var toGuest: FrameQueue
    /// Whether the guest's end is closed.
    private(set) var isClosed = false
    /// Whether the carrier is on.
    private(set) var hasCarrier = true
    /// How often the carrier was switched off or on.
    private(set) var carrierChanges = 0

    /// Makes a link.
    ///
    /// - Parameters:
    ///   - capabilities: what it can do. With ``LinkCapabilities/backPressure`` it asks the data path to wait before
    ///     its queue is full; without, it refuses frames when the queue is full.
    ///   - capacity: the number of bytes that may wait in each direction.
    init(capabilities: LinkCapabilities, capacity: Int = 4 << 20) {
        self.capabilities = capabilities
        fromGuest = FrameQueue(capacity: capacity)
        toGuest = FrameQueue(capacity: capacity)
    }

    // MARK: The data path's end
    //
    // Not inlined, so that they take no space in the data path's code for a tap.

    var hardwareAddress: MACAddress? { nil }

    func watch(on loop: EventLoop) {}

    func unwatch(on loop: EventLoop) {}

    @inline(never)
    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        let memory = unsafe UnsafeMutableRawBufferPointer(start: arena.next, count: FrameArena.frameLimit)
        guard let count = unsafe fromGuest.remove(into: memory) else { return isClosed ? .gone : .empty }
        return takeFrame(count, in: &arena)
    }

    @inline(never)
    var canTransmit: Bool {
        !capabilities.contains(.backPressure)
            || toGuest.hasRoom(forFrames: DataPath.Size.segments, of: FrameArena.frameLimit)
    }

    @inline(never)
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool {
        var piece = unsafe iovec(iov_base: putHeader(header, before: frame), iov_len: headerLength + count)
        return unsafe toGuest.append(&piece, count: 1)
    }

    @inline(never)
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        unsafe putHeader(header, before: pieces)
        return unsafe toGuest.append(pieces, count: count)
    }

    func setCarrier(_ isOn: Bool) {
        guard capabilities.contains(.carrier), isOn != hasCarrier else { return }
        hasCarrier = isOn
        carrierChanges += 1
    }

    var showsCarrier: Bool? { hasCarrier }

    // MARK: The guest's end

    /// Whether there is something for the data path to receive: a frame, or the end.
    var isReady: Bool { !fromGuest.isEmpty || isClosed }

    /// Whether there is something for the guest to receive.
    var hasFrames: Bool { !toGuest.isEmpty }

    /// Sends bytes to the data path unchanged: with the header first, if the link has one.
    ///
    /// - Returns: False if there is no room at present.
    func send(_ bytes: UnsafeRawBufferPointer) -> Bool {
        // The memory is only read.
        var piece = unsafe iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        return unsafe fromGuest.append(&piece, count: 1)
    }

    /// Receives the next frame of the data path, with its header if the link has one.
    ///
    /// - Returns: Its length in bytes, cut to the length of the memory; nil if there is none.
    func take(into memory: UnsafeMutableRawBufferPointer) -> Int? { unsafe toGuest.remove(into: memory) }

    /// Closes the guest's end.
    func close() { isClosed = true }
}
