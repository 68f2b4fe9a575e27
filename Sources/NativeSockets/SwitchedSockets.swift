// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): close connect fcntl fstat getdents64 newfstatat openat pidfd_open socket

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
    /// The number of sockets at which it is checked which have been closed.
    private(set) var nextCheck = 4096

    /// Forgets all but some.
    mutating func keep(_ held: Set<UInt64>) {
        all = all.filter { held.contains($0.key) }
        nextCheck = max(4096, 2 * all.count)
    }

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

extension Supervisor {
    /// Ends the sockets whose address the host no longer has: their other end cannot answer any more.
    ///
    /// They are taken from the command's processes that have them now. A socket in flight between processes, of a process
    /// whose first thread has ended, or outside of the command is not found.
    func endSocketsOfLostAddresses() {
        guard let present = settings.hostAddresses else { return }
        let hasLost = switched.all.values.contains { !present.contains(IPAddress(unmapping: $0.local.address)) }
        guard hasLost else { return }
        var ended = 0
        forEachHeldSocket { socket in
            guard let local = HostSocket.localEndpoint(socket.number) else { return }
            let address = IPAddress(unmapping: local.address)
            guard !address.isUnspecified, !present.contains(address) else { return }
            if end(socket) { ended += 1 }
        }
        if ended > 0 {
            tell(["log": .string("\(ended) connections ended: the host has lost their address")])
        }
    }

    /// Ends a connection: it is dissolved (connect(2), AF_UNSPEC), and readers are told so.
    ///
    /// The other end is reset if the host still has the address.
    func end(_ socket: borrowing CallerSocket) -> Bool {
        switched.remove(socket.cookie)
        var nowhere = sockaddr()
        let size = socklen_t(MemoryLayout<sockaddr>.size)
        return unsafe Glibc.connect(socket.number, &nowhere, size) == 0
    }

    /// Forgets sockets that no process of the command has any more, once there are many.
    func forgetClosedSockets() {
        guard switched.all.count >= switched.nextCheck else { return }
        var held: Set<UInt64> = []
        forEachHeldSocket { held.insert($0.cookie) }
        switched.keep(held)
    }

    /// Calls `body` with each socket of the host that a process of the command has; with some of them more than once.
    func forEachHeldSocket(_ body: (borrowing CallerSocket) -> Void) {
        for process in Self.numbers(in: proc, ".") {
            // Those of others are out of reach (EPERM).
            let opened = tapas_open_thread(process)
            guard opened >= 0 else { continue }
            let descriptor = OwnedFileDescriptor(taking: opened)
            for number in Self.numbers(in: proc, "\(process)/fd") {
                do throws(Errno) {
                    let socket = try socket(number, of: descriptor.rawValue)
                    if socket.origin == .host, socket.isTCP { body(socket) }
                } catch {
                    if error == .notPermitted || error == .noSuchProcess { break }
                }
            }
        }
    }

    /// The names of a folder that are numbers.
    private static func numbers(in folder: CInt, _ path: String) -> [CInt] {
        let number = unsafe tapas_open_below(folder, path, O_RDONLY | O_DIRECTORY)
        guard number >= 0 else { return [] }
        return Folder.names(closing: number)?.compactMap { CInt($0) } ?? []
    }
}
