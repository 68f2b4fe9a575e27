// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: setup(control): timerfd_create timerfd_settime
// syscalls: running(control): timerfd_settime read close

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// A descriptor that becomes readable when the wall clock jumps, which it does at each resume from sleep.
///
/// A timer of `CLOCK_REALTIME` that never ends, with `TFD_TIMER_CANCEL_ON_SET` (timerfd_create(2)): no wake-up ever
/// happens but for a jump.
public struct ClockWatch: ~Copyable, Sendable {
    private let timer: OwnedFileDescriptor

    /// Makes and arms the timer.
    ///
    /// - Throws: The error of timerfd_create(2) or timerfd_settime(2).
    public init() throws(SystemCallError) {
        let timer = OwnedFileDescriptor(
            taking: try retrying("timerfd_create", "CLOCK_REALTIME") {
                timerfd_create(CLOCK_REALTIME, CInt(TFD_CLOEXEC | TFD_NONBLOCK))
            })
        try Self.arm(timer.rawValue)
        self.timer = timer
    }

    /// The descriptor to watch for readability, lent.
    public var descriptor: FileDescriptor { timer.descriptor }

    /// Takes note of the jump that made the descriptor readable, and waits for the next.
    ///
    /// - Throws: The error of timerfd_settime(2).
    public borrowing func acknowledge() throws(SystemCallError) {
        try Self.acknowledge(timer.rawValue)
    }

    static func acknowledge(_ number: CInt) throws(SystemCallError) {
        var expirations: UInt64 = 0
        // Fails with ECANCELED, which is the news.
        _ = unsafe Glibc.read(number, &expirations, MemoryLayout<UInt64>.size)
        try arm(number)
    }

    private static func arm(_ number: CInt) throws(SystemCallError) {
        var never = itimerspec()
        never.it_value.tv_sec = time_t.max
        let flags = CInt(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)
        try retrying("timerfd_settime", "CLOCK_REALTIME") { unsafe timerfd_settime(number, flags, &never, nil) }
    }
}
