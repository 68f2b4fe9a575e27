// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
// syscalls: setup(main): close fstat newfstatat openat read readlink
// syscalls: running(resolver-watcher): close fstat newfstatat openat read readlink

internal import Glibc
internal import LinuxSystem
public import NetworkModel
internal import SystemPackage

/// resolv.conf as a file: reading it, and what must be watched to notice that it changes.
public enum ResolverFile {
    /// Where the host's resolvers are named.
    public static let standardPath = "/etc/resolv.conf"
    /// The most that is read of the file, in bytes.
    public static let maximumByteCount = 32768

    /// Reads the file now.
    ///
    /// - Parameter path: The path, relative to the process's root and mount namespace.
    /// - Returns: The bounded text, or why there is none; a file that is not a regular one is unreadable (EINVAL).
    public static func read(_ path: String = standardPath) -> ResolverReport {
        do throws(SystemCallError) {
            let file = try OwnedFileDescriptor.open(path, .readOnly, options: .nonBlocking)
            var status = stat()
            let number = file.rawValue
            try retrying("fstat", path) { unsafe fstat(number, &status) }
            guard status.st_mode & S_IFMT == S_IFREG else { return .unreadable(errno: EINVAL) }
            var text = [UInt8](repeating: 0, count: maximumByteCount)
            var count = 0
            while count < text.count {
                let offset = count
                let part = try retrying("read", path) {
                    unsafe text.withUnsafeMutableBytes {
                        unsafe Glibc.read(number, $0.baseAddress?.advanced(by: offset), $0.count - offset)
                    }
                }
                if part == 0 { break }
                count += part
            }
            return .text(Array(text[..<count]))
        } catch {
            return error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory
                ? .absent : .unreadable(errno: error.errno.rawValue)
        }
    }

    /// Reads the resolvers now, as a start without a monitor does.
    public static func configuration(_ path: String = standardPath) -> ResolverConfiguration {
        read(path).configuration
    }

    /// What a path depends on.
    struct Chain: Hashable {
        /// The directories in which a name of the chain is, or is to appear, with those names.
        var directories: [String: Set<String>] = [:]
        /// The file at the chain's end, if it is there: watched itself too, for it may be a mount of its own.
        var file: String?
    }

    /// What a node of the file system is, as far as following a path needs it.
    enum Node: Hashable {
        case link(target: String)
        case directory
        case other
        case missing
    }

    /// Follows a path through its symbolic links.
    ///
    /// A directory is part of the chain if a link of the chain or the file itself is in it, or if the next component is
    /// missing there. Components above are not watched: a directory that goes away tells so itself.
    ///
    /// - Parameters:
    ///   - path: An absolute path.
    ///   - node: Says what is at a path whose directories contain no links any more.
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

    /// What is at a path now.
    static func node(_ path: String) -> Node {
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return .missing }
        switch status.st_mode & S_IFMT {
        case S_IFDIR: return .directory
        case S_IFLNK:
            var target = [UInt8](repeating: 0, count: Int(PATH_MAX))
            let count = unsafe target.withUnsafeMutableBytes { bytes in
                guard let base = bytes.baseAddress else { return -1 }
                return unsafe readlink(path, base.assumingMemoryBound(to: CChar.self), bytes.count)
            }
            guard count > 0 else { return .missing }
            return .link(target: String(decoding: target[..<min(count, target.count)], as: UTF8.self))
        default: return .other
        }
    }
}
