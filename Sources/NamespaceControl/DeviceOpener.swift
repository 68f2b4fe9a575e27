// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// A tun device belongs to the network namespace of the thread that opens /dev/net/tun. Only root may be able to open
// the node (mode 0600, the kernel's default where no udev runs). When real root starts tapas, it changes its identity
// before the namespace exists. So a helper is forked before that; it keeps root's rights until it has opened the node
// in the namespace.
// syscalls: setup(main): access clone close kill newfstatat recvmsg sendmsg socketpair wait4
// syscalls: setup(namespace): access close openat
// syscalls: setup(device-opener): close close_range dup3 fcntl openat prctl recvmsg sendmsg setns

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import SystemPackage

/// Opens `/dev/net/tun` inside the target network namespace.
public struct DeviceOpener: ~Copyable {
    private static let path = "/dev/net/tun"

    private let process: Int32
    private let channel: CInt

    /// Forks the helper if the ids to be taken may not open the node while the present ones may.
    ///
    /// The process must have one thread only.
    ///
    /// - Parameters:
    ///   - user: the user id that the program is about to take.
    ///   - group: the group id that the program is about to take.
    /// - Returns: nil if no helper is needed.
    /// - Throws: The error of fork(2).
    public static func fork(beforeBecoming user: UInt32, group: UInt32) throws(NamespaceError) -> DeviceOpener? {
        var status = stat()
        // If the node does not exist, opening it later reports that.
        guard unsafe stat(path, &status) == 0 else { return nil }
        let shift: mode_t = status.st_uid == user ? 6 : status.st_gid == group ? 3 : 0
        if (status.st_mode >> shift) & 6 == 6 { return nil }
        var channel: CInt = -1
        let process = unsafe tapas_fork_opener(path, &channel)
        guard process >= 0 else {
            throw NamespaceError("cannot start a helper", SystemCallError("fork", "", currentErrno))
        }
        return DeviceOpener(process: process, channel: channel)
    }

    /// Ends and reaps a helper that was not used.
    deinit {
        close(channel)
        _ = kill(process, SIGKILL)
        while waitpid(process, nil, 0) < 0 && currentErrno == .interrupted {}
    }

    /// Has the helper open the node in a network namespace and end.
    ///
    /// - Throws: The error of open(2) with its remedy.
    public consuming func open(
        in namespace: borrowing NamespaceFile
    ) throws(NamespaceError) -> OwnedFileDescriptor {
        let number = tapas_open_by_opener(process, channel, namespace.descriptor.rawValue)
        let error = currentErrno
        discard self
        guard number >= 0 else { throw .tunDevice(SystemCallError("open", Self.path, error)) }
        return OwnedFileDescriptor(taking: number)
    }

    /// Opens the node on the calling thread, which must be in the target network namespace.
    ///
    /// - Throws: The error of open(2) with its remedy.
    public static func openHere() throws(NamespaceError) -> OwnedFileDescriptor {
        do {
            return try OwnedFileDescriptor.open(path, .readWrite)
        } catch {
            throw .tunDevice(error, modeAllows: unsafe access(path, R_OK | W_OK) == 0)
        }
    }
}
