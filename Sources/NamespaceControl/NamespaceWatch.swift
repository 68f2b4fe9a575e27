// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A namespace that others hold does not end when its file does, and nothing announces its end; what can be seen is that
// its name goes. So, as upstream does, the name is watched:
//   - /proc/PID/ns/net: the process itself, by pidfd, which is readable the moment it ends;
//   - a file on an ordinary file system: its folder, by inotify, for the deletion or renaming of that base name;
//   - else (procfs of another process namespace, devpts, no inotify instance to be had): a timer of one second that
//     tries to open the base name in the folder. "Permission denied" counts as still there.
// A name that is a symbolic link is followed once, at the start, and what it leads to is watched: that is the
// namespace's file, which goes with the namespace. The link itself may go.
// Unmounting without unlinking does not end it. The folder is opened only in the last case: a descriptor for it would
// keep its file system busy.
// syscalls: setup(main): access getpid inotify_add_watch inotify_init1 openat pidfd_open readlink statfs
// syscalls: setup(main): timerfd_create timerfd_settime
// syscalls: running(data-path): access poll read close

internal import CLinux
internal import Glibc
internal import LinuxSystem
public import SystemPackage

/// Tells when the name of a network namespace goes.
public final class NamespaceWatch {
    private enum Way {
        case process
        case folder(name: [UInt8])
        case poll(folder: OwnedFolder, name: String)
    }

    /// A folder kept open: a reference, so that an enumeration case can hold it.
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
            // It may have gone between its opening and now, which no event will tell.
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

    /// Readable when there is something to ask ``isGone()`` about.
    public var descriptor: FileDescriptor { file.descriptor }

    /// Takes what is to be read and says whether the name is gone.
    public func isGone() -> Bool {
        switch way {
        case .process: return true
        case .folder(let name): return readEvents(about: name)
        case .poll(let folder, let name):
            var expirations: UInt64 = 0
            let number = file.rawValue
            _ = transferring { unsafe read(number, &expirations, MemoryLayout<UInt64>.size) }
            let opened = unsafe openat(folder.file.rawValue, name, O_RDONLY | O_CLOEXEC)
            if opened >= 0 {
                close(opened)
                return false
            }
            return currentErrno != .permissionDenied
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

    /// A pidfd, provided that /proc counts processes as we do.
    private static func pidfd(of process: Int32) -> OwnedFileDescriptor? {
        var bytes = [CChar](repeating: 0, count: 16)
        let length = unsafe readlink("/proc/self", &bytes, bytes.count)
        guard length > 0 else { return nil }
        let own = String(decoding: bytes.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard own == String(getpid()) else { return nil }
        let number = tapas_pidfd_open(process)
        return number < 0 ? nil : OwnedFileDescriptor(taking: number)
    }

    // MARK: Folder

    /// The path with its last component followed as long as that is a symbolic link, but for those of procfs, which
    /// are the namespaces themselves.
    static func resolve(_ path: String) -> String {
        var path = path
        for _ in 0..<40 {
            let (folder, _) = split(path)
            guard unsafe tapas_filesystem_type(folder) != Int(PROC_SUPER_MAGIC) else { break }
            var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
            let count = unsafe bytes.withUnsafeMutableBytes { buffer in
                guard let base = buffer.baseAddress else { return -1 }
                return unsafe readlink(path, base.assumingMemoryBound(to: CChar.self), buffer.count)
            }
            guard count > 0, count < bytes.count else { break }
            let target = String(decoding: bytes.prefix(count), as: UTF8.self)
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

    /// Whether a folder is on a file system whose files go without an event.
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

    /// Reads events (inotify(7)) and looks for the end of the name, or of the folder.
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
