// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(data-path): fcntl fstat newfstatat write

internal import CLinux
internal import Glibc
internal import LinuxSystem

/// An eventfd(2) by which a virtual machine's program and the link notify each other, if the program has sent one.
@safe
struct EventDescriptor: ~Copyable {
    private var owner: OwnedFileDescriptor?
    /// Its number; -1 if there is none.
    private(set) var number: CInt = -1

    /// Takes a descriptor in place of the present one.
    ///
    /// - Returns: False if it is no eventfd: a write to it could block, or its events could be missed.
    mutating func take(_ descriptor: consuming OwnedFileDescriptor) -> Bool {
        close()
        let taken = descriptor.rawValue
        guard tapas_may_be_eventfd(taken) && tapas_set_nonblocking(taken, 1) == 0 else { return false }
        number = taken
        owner = consume descriptor
        return true
    }

    /// Closes the descriptor.
    mutating func close() {
        number = -1
        owner = nil
    }

    /// Notifies the other end, if there is a descriptor.
    func notify() {
        guard number >= 0 else { return }
        var one: UInt64 = 1
        // EAGAIN means that the counter has reached its limit, which only the other end can have brought about.
        _ = unsafe tapas_write(number, &one, MemoryLayout<UInt64>.size)
    }
}
