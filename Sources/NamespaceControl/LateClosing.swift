// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(data-path): sendmsg socketpair

internal import CLinux
public import SystemPackage

/// Closing that nobody waits for.
public enum LateClosing {
    /// Leaves the last closing of a descriptor to the kernel, soon after the end of the process.
    ///
    /// Closing a tap unregisters its interface, which takes 10 to 20 ms of waiting for the kernel's own housekeeping,
    /// and whoever waits for us would wait for that, too: more than half of the time from start to exit of a short
    /// command. Only for a namespace that has ended: in one that lives on, the interface must be gone when we are.
    /// Where the kernel refuses, the descriptor is closed with the process as always.
    public static func afterExit(_ descriptor: FileDescriptor) {
        _ = tapas_close_after_exit(descriptor.rawValue)
    }
}
