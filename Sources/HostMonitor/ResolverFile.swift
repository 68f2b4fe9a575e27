// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: setup(main): close fstat newfstatat openat read readlinkat
// syscalls: running(resolver-watcher): close fstat newfstatat openat read readlinkat

internal import Glibc
internal import LinuxSystem
public import NetworkModel
internal import SystemPackage

/// resolv.conf as a file: reading it, and the paths to watch for changes of it.
public enum ResolverFile {
    /// The file that names the host's resolvers.
    public static let standardPath = "/etc/resolv.conf"
    /// The greatest number of bytes that are read of the file.
    public static let maximumByteCount = 32768

    /// Reads the file now.
    ///
    /// - Parameter path: The path, relative to the process's root and mount namespace.
    /// - Returns: The text, bounded, or the reason why there is none; a file that is not a regular one is unreadable
    ///   (EINVAL).
    public static func read(_ path: String = standardPath) -> ResolverReport {
        do throws(SystemCallError) {
            let file = try OwnedFileDescriptor.open(path, .readOnly, options: .nonBlocking)
            var status = stat()
            let number = file.rawValue
            try retrying("fstat", path) { unsafe fstat(number, &status) }
            guard status.st_mode & S_IFMT == S_IFREG else { return .unreadable(errno: EINVAL) }
            return .text(try SmallFile.contents(of: file.descriptor, named: path, limit: maximumByteCount))
        } catch {
            return error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory
                ? .absent : .unreadable(errno: error.errno.rawValue)
        }
    }

    /// Reads the resolvers once, for a start without a monitor.
    public static func configuration(_ path: String = standardPath) -> ResolverConfiguration {
        read(path).configuration
    }

    /// The directories and the file that a path depends on.
    struct Chain: Hashable {
        /// The directories that contain, or will contain, a name of the chain, with those names.
        var directories: [String: Set<String>] = [:]
        /// The file at the chain's end, if it exists; it is watched itself, too, since it may be a mount of its own.
        var file: String?
    }

    /// The kind of a file system node, as far as following a path needs it.
    enum Node: Hashable {
        case link(target: String)
        case directory
        case other
        case missing
    }

    /// Follows a path through its symbolic links.
    ///
    /// A directory is part of the chain if it contains a link of the chain or the file itself, or if the next component
    /// is missing there. Directories above are not watched: a directory that is removed reports that itself.
    ///
    /// - Parameters:
    ///   - path: An absolute path.
    ///   - node: Returns what is at a path whose directories contain no links.
    /// - Returns: The chain; it ends early after 40 links, as the kernel's own does (ELOOP).
    static func chain(_ path: String, node: (_ path: String) -> Node) -> Chain {
        var chain = Chain()
        var done: [String] = []
        var pending = Array(components(path).reversed())
        var links = 0
        while let name = pending.popLast() {
            if name == ".." {
                _ = done.popLast()
                continue
            }
            let directory = "/" + done.joined(separator: "/")
            let here = directory == "/" ? "/" + name : directory + "/" + name
            switch node(here) {
            case .missing:
                chain.directories[directory, default: []].insert(name)
                return chain
            case .link(let target):
                chain.directories[directory, default: []].insert(name)
                links += 1
                if links > 40 { return chain }
                if target.utf8.first == UInt8(ascii: "/") { done = [] }
                pending += components(target).reversed()
            case .directory where !pending.isEmpty:
                done.append(name)
            case .directory, .other:
                chain.directories[directory, default: []].insert(name)
                chain.file = here
                return chain
            }
        }
        return chain
    }

    private static func components(_ path: String) -> [String] {
        path.split(separator: "/").map { String($0) }.filter { $0 != "." }
    }

    /// The node at a path now.
    static func node(_ path: String) -> Node {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return .missing }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: return .directory
        case S_IFLNK:
            guard let target = SymbolicLink.target(path) else { return .missing }
            return .link(target: target)
        default: return .other
        }
    }
}
