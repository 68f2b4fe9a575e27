// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import VirtualMachine

/// A ring in the guest's memory, and the descriptors by which the two ends notify each other.
///
/// The descriptor for kicks is watched edge-triggered and never read: each write to an eventfd(2) is an event, whatever
/// its counter is.
@safe
struct VhostUserRing: ~Copyable {
    /// The ring, while it runs.
    private(set) var queue: Virtqueue?
    /// On this one the guest reports available entries.
    var kick = EventDescriptor()
    /// On this one the guest is notified of used entries; without it, the guest polls.
    private var call = EventDescriptor()
    /// On this one the guest's program is notified that the ring is broken.
    var error = EventDescriptor()
    /// Whether the guest is asked to kick.
    private(set) var wantsKicks = true
    /// Whether the guest sees used entries that it was not notified of.
    private var needsCall = false

    init() {}

    // MARK: Control

    /// Begins to use a ring.
    mutating func start(_ queue: Virtqueue) {
        self.queue = queue
        wantsKicks = true
        queue.wantKicks(true)
    }

    /// Shows the guest all used entries, and ends using the ring.
    mutating func stop() {
        finish()
        queue = nil
    }

    /// Takes the descriptor for calls.
    ///
    /// - Returns: False if it is no eventfd.
    mutating func setCall(_ descriptor: consuming OwnedFileDescriptor) -> Bool {
        guard call.take(descriptor) else { return false }
        // The guest may not have been notified of entries that were used before.
        needsCall = true
        return true
    }

    /// Closes the descriptor for calls.
    mutating func closeCall() { call.close() }

    // MARK: Chains

    /// Whether chains can be taken.
    @inline(__always)
    var isRunning: Bool { queue != nil }

    /// Whether a fault was found in the ring; then it gives nothing any more.
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

    /// The present position in the ring.
    @inline(__always)
    var mark: Virtqueue.Mark? { queue?.mark }

    /// Goes back to a mark.
    mutating func rewind(to mark: Virtqueue.Mark) { queue?.rewind(to: mark) }

    /// Notes a chain as used.
    @inline(__always)
    mutating func use(_ head: UInt16, written: Int) { queue?.use(head, written: UInt32(truncatingIfNeeded: written)) }

    /// Asks the guest to kick, or not to kick.
    ///
    /// After asking for kicks, look for chains once more.
    @inline(__always)
    mutating func wantKicks(_ wanted: Bool) {
        guard wanted != wantsKicks else { return }
        wantsKicks = wanted
        queue?.wantKicks(wanted)
    }

    /// Shows the guest the used entries.
    @inline(__always)
    mutating func publish() {
        if queue?.publish() == true { needsCall = true }
    }

    /// Shows the guest the used entries, and notifies it if it asks for that.
    mutating func finish() {
        publish()
        guard needsCall, let queue else { return }
        needsCall = false
        if queue.wantsCall { call.notify() }
    }

    /// Marks the ring as broken for a fault that the caller has found.
    mutating func fail(_ reason: VirtqueueFault) { queue?.fail(reason) }
}
