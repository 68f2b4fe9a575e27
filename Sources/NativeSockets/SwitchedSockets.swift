// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): close connect

internal import CLinux
internal import Glibc
internal import JSON
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// A socket of the host that the command has.
struct SwitchedSocket {
    /// The kernel's number of the socket.
    var cookie: UInt64
    /// The thread that it was given, and the descriptor; it may have been passed on since.
    var thread: pid_t
    var descriptor: CInt
    /// Where it is connected to.
    var remote: Endpoint
    /// The host's address and port.
    var local: Endpoint
    var opened: MonotonicTime
    /// Whether the caller does not know yet that it connects.
    var isBegun = false
}

/// The sockets of the host that the command has, by the kernel's numbers.
struct SwitchedSockets {
    private(set) var all: [UInt64: SwitchedSocket] = [:]

    mutating func add(_ socket: SwitchedSocket) { all[socket.cookie] = socket }
    mutating func remove(_ cookie: UInt64) { all[cookie] = nil }

    /// Notes that a caller was interrupted before it heard that its socket connects.
    mutating func beginAgain(_ cookie: UInt64) { all[cookie]?.isBegun = true }

    /// Whether that was noted; it is true once.
    mutating func takeBegun(_ cookie: UInt64) -> Bool {
        guard all[cookie]?.isBegun == true else { return false }
        all[cookie]?.isBegun = false
        return true
    }
}

/// What the supervisor has counted.
struct NativeFigures {
    /// Connections whose socket was replaced.
    var switched: UInt64 = 0
    /// Connections that the namespace's own socket has made.
    var unswitched: UInt64 = 0
    /// Calls on switched sockets that were refused.
    var refused: UInt64 = 0
    /// Switched sockets that were ended because the host lost their address.
    var ended: UInt64 = 0
    /// Notifications, by their time of service in microseconds as a power of two.
    var times = [UInt64](repeating: 0, count: 24)

    /// Counts a notification.
    mutating func count(nanoseconds: Int64) {
        let microseconds = UInt64(max(nanoseconds / 1000, 0))
        times[min(UInt64.bitWidth - microseconds.leadingZeroBitCount, times.count - 1)] += 1
    }
}

extension Supervisor {
    /// Ends the sockets whose address the host no longer has.
    func endSocketsOfLostAddresses() {
    }

    /// Answers a question of the engine.
    func answer(_ query: JSONValue) {
    }
}
