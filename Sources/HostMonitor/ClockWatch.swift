// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: setup(main): close timerfd_create timerfd_settime
// syscalls: running(control): close read timerfd_settime

internal import CLinux
internal import Glibc
public import LinuxSystem
public import SystemPackage

/// A descriptor that becomes readable when the wall clock jumps, which it does at each resume from sleep.
///
/// It is a timer of `CLOCK_REALTIME` that never expires, with `TFD_TIMER_CANCEL_ON_SET` (timerfd_create(2)), so it
/// wakes the process only when the clock jumps.
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

    /// The descriptor to watch for readability.
    public var descriptor: FileDescriptor { timer.descriptor }

    /// Acknowledges the jump that made the descriptor readable, and waits for the next one.
    ///
    /// - Throws: The error of timerfd_settime(2).
    public borrowing func acknowledge() throws(SystemCallError) {
        try Self.acknowledge(timer.rawValue)
    }

    static func acknowledge(_ number: CInt) throws(SystemCallError) {
        var expirations: UInt64 = 0
        // The read fails with ECANCELED, which reports the jump.
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
