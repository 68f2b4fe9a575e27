// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(data-path): sendmsg socketpair

internal import CLinux
public import SystemPackage

/// Closing a descriptor without waiting for it.
public enum DeferredClosing {
    /// Leaves the last closing of a descriptor to the kernel, shortly after the end of the process.
    ///
    /// Closing a tap unregisters its interface, for which the kernel waits 10 to 20 ms. A parent that waits for this
    /// process would wait for that, too: more than half of the time from start to exit of a short command. Use it only
    /// for a namespace that has ended; in a namespace that continues to exist, the interface must be gone when this
    /// process ends. If the kernel refuses, the descriptor is closed with the process as usual.
    public static func afterExit(_ descriptor: FileDescriptor) {
        _ = tapas_close_after_exit(descriptor.rawValue)
    }
}
