// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(data-path): fcntl fstat newfstatat write

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import VirtualMachine

/// A ring in the guest's memory, and the descriptors by which the two ends wake each other.
///
/// The descriptor for kicks is watched edge-triggered and never read: each write to an eventfd(2) is an event, whatever
/// it counts to.
@safe
struct VhostUserRing: ~Copyable {
    /// The ring, while it runs.
    private(set) var queue: Virtqueue?
    private var kick: OwnedFileDescriptor?
    private var call: OwnedFileDescriptor?
    private var error: OwnedFileDescriptor?
    // Their numbers; -1 where there is none.
    private(set) var kickNumber: CInt = -1
    private var callNumber: CInt = -1
    private var errorNumber: CInt = -1
    /// Whether the guest is to kick.
    private(set) var wantsKicks = true
    /// Whether there are used entries that the guest sees and was not told of.
    private var owesCall = false

    init() {}

    // MARK: Control

    /// Begins to use a ring.
    mutating func start(_ queue: Virtqueue) {
        self.queue = queue
        wantsKicks = true
        queue.wantKicks(true)
    }

    /// Ends using the ring, after the guest was shown everything.
    mutating func stop() {
        finish()
        queue = nil
    }

    /// Takes a descriptor on which the guest tells of available entries.
    ///
    /// - Returns: False if it is no eventfd, which a write could block or an event could miss.
    mutating func setKick(_ descriptor: consuming OwnedFileDescriptor) -> Bool {
        closeKick()
        guard Self.accepts(descriptor.rawValue) else { return false }
        kickNumber = descriptor.rawValue
        kick = consume descriptor
        return true
    }

    /// Closes the descriptor for kicks, which a ring that stopped needs no more.
    mutating func closeKick() {
        kickNumber = -1
        kick = nil
    }

    /// Takes a descriptor on which the guest is told of used entries.
    ///
    /// - Returns: False if it is no eventfd.
    mutating func setCall(_ descriptor: consuming OwnedFileDescriptor) -> Bool {
        closeCall()
        guard Self.accepts(descriptor.rawValue) else { return false }
        callNumber = descriptor.rawValue
        call = consume descriptor
        // What was used before may not have been told.
        owesCall = true
        return true
    }

    /// Closes the descriptor for calls: the guest looks by itself.
    mutating func closeCall() {
        callNumber = -1
        call = nil
    }

    /// Takes a descriptor on which the guest's program is told of a broken ring.
    ///
    /// - Returns: False if it is no eventfd.
    mutating func setError(_ descriptor: consuming OwnedFileDescriptor) -> Bool {
        closeError()
        guard Self.accepts(descriptor.rawValue) else { return false }
        errorNumber = descriptor.rawValue
        error = consume descriptor
        return true
    }

    /// Closes the descriptor for errors.
    mutating func closeError() {
        errorNumber = -1
        error = nil
    }

    /// Whether a descriptor cannot hold up a write, unless its other end makes it.
    private static func accepts(_ number: CInt) -> Bool {
        tapas_may_be_eventfd(number) && tapas_set_nonblocking(number, 1) == 0
    }

    // MARK: Chains

    /// Whether chains can be taken.
    @inline(__always)
    var isRunning: Bool { queue != nil }

    /// Whether something was wrong with it, so that it gives nothing any more.
    var isBroken: Bool { queue?.fault != nil }

    /// Whether there is a chain to take.
    @inline(__always)
    var hasAvailable: Bool { queue?.hasAvailable ?? false }

    /// Takes the next chain.
    ///
    /// - Returns: False if there is none, or the ring does not run.
    /// - Throws: ``VirtqueueFault``
    @inline(__always)
    mutating func next(
        into chain: inout VirtqueueChain, memory: borrowing GuestMemory
    ) throws(VirtqueueFault) -> Bool {
        try queue?.next(into: &chain, memory: memory) ?? false
    }

    /// How far the ring has got.
    @inline(__always)
    var mark: Virtqueue.Mark? { queue?.mark }

    /// Goes back to a mark.
    mutating func rewind(to mark: Virtqueue.Mark) { queue?.rewind(to: mark) }

    /// Notes a chain as used.
    @inline(__always)
    mutating func use(_ head: UInt16, written: Int) { queue?.use(head, written: UInt32(truncatingIfNeeded: written)) }

    /// Has the guest kick, or not; after that it does, chains have to be looked for once more.
    @inline(__always)
    mutating func wantKicks(_ wanted: Bool) {
        guard wanted != wantsKicks else { return }
        wantsKicks = wanted
        queue?.wantKicks(wanted)
    }

    /// Shows the guest what was used.
    @inline(__always)
    mutating func publish() {
        if queue?.publish() == true { owesCall = true }
    }

    /// Shows the guest what was used, and tells it if it wants to be told.
    mutating func finish() {
        publish()
        guard owesCall, let queue else { return }
        owesCall = false
        if queue.wantsCall { Self.write(callNumber) }
    }

    /// Breaks the ring for a reason that its user has found.
    mutating func fail(_ reason: VirtqueueFault) { queue?.fail(reason) }

    /// Tells the guest's program that the ring is broken.
    func tellFault() { Self.write(errorNumber) }

    private static func write(_ number: CInt) {
        guard number >= 0 else { return }
        var one: UInt64 = 1
        // EAGAIN means that the other end has not read a number beyond all bounds.
        _ = unsafe tapas_write(number, &one, MemoryLayout<UInt64>.size)
    }
}
