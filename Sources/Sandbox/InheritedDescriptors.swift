// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close close_range fstat newfstatat openat prlimit64

internal import CLinux
internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// The descriptors that the parent process left open.
public enum InheritedDescriptors {
    /// Opens /dev/null on those of 0, 1 and 2 that are closed, so that no other descriptor takes their place.
    public static func fillStandard() {
        var status = stat()
        for number: CInt in 0...2 where unsafe fstat(number, &status) != 0 {
            // The lowest free number is used, which is this one.
            _ = unsafe open("/dev/null", O_RDWR)
        }
    }

    /// Closes all descriptors above 2 except those to keep.
    public static func closeAll(keeping kept: [FileDescriptor]) {
        var first: UInt32 = 3
        for number in kept.map(\.rawValue).sorted() where number >= first {
            if UInt32(number) > first { closeRange(first, UInt32(number) - 1) }
            first = UInt32(number) + 1
        }
        closeRange(first, .max)
    }

    private static func closeRange(_ first: UInt32, _ last: UInt32) {
        guard tapas_close_range(first, last) != 0 else { return }
        // Before Linux 5.9: one by one, up to the limit.
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        for number in first...max(first, min(last, UInt32(clamping: limit.rlim_cur))) { close(CInt(number)) }
    }
}
