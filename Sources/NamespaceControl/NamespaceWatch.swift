// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A namespace that other processes hold does not end when its file is removed, and nothing announces its end; only the
// removal of its name can be seen. So the name is watched, as upstream does:
//   - /proc/PID/ns/net: the process itself is watched by pidfd, which becomes readable when the process ends;
//   - a file on an ordinary file system: its folder is watched by inotify for the deletion or renaming of that name;
//   - otherwise (procfs of another process namespace, devpts, no inotify instance available): a timer of one second
//     looks for the name in the folder. "Permission denied" counts as present.
// If the name is a symbolic link, it is followed once, at the start, and its target is watched, which is the
// namespace's file. The link itself may be removed. Unmounting without unlinking does not count as the end. The folder
// is opened in the last case only, because a descriptor for it keeps its file system busy.
// syscalls: setup(main): access close getpid inotify_add_watch inotify_init1 openat pidfd_open readlinkat statfs
// syscalls: setup(main): timerfd_create timerfd_settime
// syscalls: running(data-path): newfstatat read

internal import CLinux
internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// Reports the removal of a network namespace's name.
public final class NamespaceWatch {
    private enum Way {
        case process
        case folder(name: [UInt8])
        case poll(folder: OwnedFolder, name: String)
    }

    /// A folder that is kept open; a class, so that an enumeration case can hold it.
    private final class OwnedFolder {
        let file: OwnedFileDescriptor

        init(_ path: String) throws(SystemCallError) {
            file = try OwnedFileDescriptor.open(path, .readOnly, options: .directory)
        }
    }

    private let way: Way
    private let file: OwnedFileDescriptor

    /// Begins to watch the name of a namespace.
    ///
    /// - Throws: An error that names the folder, if it can neither be watched nor opened.
    public init(path: String) throws(NamespaceError) {
        let path = Self.resolve(path)
        if let process = Self.process(of: path), let pidfd = Self.pidfd(of: process) {
            way = .process
            file = pidfd
            return
        }
        let (folder, name) = Self.split(path)
        if !Self.needsPolling(folder), let inotify = Self.inotify(on: folder) {
            way = .folder(name: Array(name.utf8))
            file = inotify
            // The name may have been removed between its opening and now, which no event will report.
            if unsafe access(path, F_OK) != 0 && currentErrno == .noSuchFileOrDirectory {
                throw NamespaceError("network namespace '\(path)' is gone already")
            }
            return
        }
        do {
            way = .poll(folder: try OwnedFolder(folder), name: name)
            file = try Self.timer()
        } catch {
            throw NamespaceError(
                "cannot watch '\(folder)' for the end of the namespace", error, remedy: "try --no-netns-quit")
        }
    }

    /// Readable when ``isGone()`` should be called.
    public var descriptor: FileDescriptor { file.descriptor }

    /// Reads pending events and says whether the name is gone.
    public func isGone() -> Bool {
        switch way {
        case .process: return true
        case .folder(let name): return readEvents(about: name)
        case .poll(let folder, let name):
            var expirations: UInt64 = 0
            let number = file.rawValue
            _ = transferring { unsafe read(number, &expirations, MemoryLayout<UInt64>.size) }
            var status = stat()
            let isThere = unsafe fstatat(folder.file.rawValue, name, &status, AT_SYMLINK_NOFOLLOW) == 0
            return !isThere && currentErrno != .permissionDenied
        }
    }

    // MARK: Process

    /// PID, if the path is /proc/PID/ns/net.
    static func process(of path: String) -> Int32? {
        let parts = path.split(separator: "/", omittingEmptySubsequences: true)
        guard path.hasPrefix("/"), parts.count == 4, parts[0] == "proc", parts[2] == "ns", parts[3] == "net" else {
            return nil
        }
        guard parts[1].utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        return Int32(parts[1])
    }

    /// A pidfd, provided that /proc numbers processes as this process sees them.
    private static func pidfd(of process: Int32) -> OwnedFileDescriptor? {
        guard SymbolicLink.target("/proc/self") == String(getpid()) else { return nil }
        let number = tapas_pidfd_open(process)
        return number < 0 ? nil : OwnedFileDescriptor(taking: number)
    }

    // MARK: Folder

    /// The path with symbolic links as its last component followed, except those of procfs, which are the namespaces
    /// themselves.
    static func resolve(_ path: String) -> String {
        var path = path
        for _ in 0..<40 {
            let (folder, _) = split(path)
            guard unsafe tapas_filesystem_type(folder) != Int(PROC_SUPER_MAGIC) else { break }
            guard let target = SymbolicLink.target(path) else { break }
            path = target.hasPrefix("/") ? target : "\(folder)/\(target)"
        }
        return path
    }

    /// The folder and the base name of a path.
    static func split(_ path: String) -> (folder: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return (".", path) }
        let name = String(path[path.index(after: slash)...])
        return (slash == path.startIndex ? "/" : String(path[..<slash]), name)
    }

    /// Whether a folder is on a file system that reports no events when its files go.
    private static func needsPolling(_ folder: String) -> Bool {
        let type = unsafe tapas_filesystem_type(folder)
        return [-1, Int(PROC_SUPER_MAGIC), Int(SYSFS_MAGIC), Int(DEVPTS_SUPER_MAGIC)].contains(type)
    }

    private static func inotify(on folder: String) -> OwnedFileDescriptor? {
        let number = inotify_init1(CInt(IN_CLOEXEC | IN_NONBLOCK))
        guard number >= 0 else { return nil }
        let file = OwnedFileDescriptor(taking: number)
        let events = UInt32(IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_ONLYDIR)
        return unsafe inotify_add_watch(number, folder, events) < 0 ? nil : consume file
    }

    /// Reads events (inotify(7)) and looks for the removal of the name or of the folder.
    private func readEvents(about name: [UInt8]) -> Bool {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let number = file.rawValue
        while case .bytes(let count) = transferring({ unsafe read(number, &buffer, buffer.count) }), count > 0 {
            if Self.names(name, in: buffer.prefix(count)) { return true }
        }
        return false
    }

    /// Whether a batch of inotify(7) events says that `name` or the watched folder is gone.
    static func names(_ name: [UInt8], in events: ArraySlice<UInt8>) -> Bool {
        let headerSize = 16
        var rest = events
        while rest.count >= headerSize {
            let header = Array(rest.prefix(headerSize))
            let mask = word(header[4...])
            let length = Int(word(header[12...]))
            let ofFolder = UInt32(IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)
            if mask & ofFolder != 0 { return true }
            let field = rest.dropFirst(headerSize).prefix(length)
            if Array(field.prefix { $0 != 0 }) == name { return true }
            rest = rest.dropFirst(headerSize + length)
        }
        return false
    }

    /// Four bytes in the machine's order.
    private static func word(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        var value: UInt32 = 0
        for (position, byte) in bytes.prefix(4).enumerated() { value |= UInt32(byte) << (8 * position) }
        return UInt32(littleEndian: value)
    }

    // MARK: Timer

    private static func timer() throws(SystemCallError) -> OwnedFileDescriptor {
        let number = try retrying("timerfd_create") {
            timerfd_create(CLOCK_MONOTONIC, CInt(TFD_CLOEXEC | TFD_NONBLOCK))
        }
        let file = OwnedFileDescriptor(taking: number)
        var period = itimerspec(
            it_interval: timespec(tv_sec: 1, tv_nsec: 0), it_value: timespec(tv_sec: 1, tv_nsec: 0))
        try retrying("timerfd_settime") { unsafe timerfd_settime(number, 0, &period, nil) }
        return file
    }
}
