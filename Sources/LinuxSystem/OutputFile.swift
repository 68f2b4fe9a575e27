// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The user who starts the program names the files of --log-file, --pid and --pcap; they are opened early. When real
// root starts the program, it continues as another user. A world-writable folder may contain a link or a file of that
// name that another user has planted. So:
//
//   1. The file is opened with the rights of the user that the program will run as.
//   2. It is created with O_EXCL and O_NOFOLLOW. A file that exists already is opened without O_CREAT and O_TRUNC, and
//      emptied only if it looks like a file of the same purpose: an old log, process id or capture.
//   3. A pipe is opened only if a process reads it; opening never blocks.
//   4. If that user may not open the file, real root opens it, provided that no other user can have influenced the
//      target of the path: every folder and link on the way, and the file itself, belong to root, and others cannot
//      replace the entries of any folder. So `--pid /run/tapas.pid` works, too.
//
// syscalls: setup(main): close fstat fstatfs ftruncate getegid geteuid getgroups newfstatat openat pread64
// syscalls: setup(main): readlinkat setgroups setresgid setresuid

internal import CLinux
internal import Glibc
public import SystemPackage

/// Why a file that an option names cannot be written: a phrase for a message.
public struct OutputFileError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The phrase.
    public var description: String
    /// The error of the call that failed, if one did.
    public var errno: Errno?

    init(_ description: String, errno: Errno? = nil) {
        self.description = description
        self.errno = errno
    }

    init(_ errno: Errno) {
        self.init("cannot open: \(errno.explanation)", errno: errno)
    }
}

/// A file that an option names and the program writes.
public struct OutputFile {
    /// Its path.
    public var path: String
    /// Its name in a message: "log of tapas".
    public var purpose: String
    /// Whether the beginning of an existing file, at most 64 bytes, shows that the file may be replaced.
    public var mayReplace: (_ beginning: ArraySlice<UInt8>) -> Bool
    /// Whether the content of such a file stays, and what is written follows it.
    public var appends = false

    /// Names a file.
    public init(_ path: String, purpose: String, mayReplace: @escaping (ArraySlice<UInt8>) -> Bool) {
        self.path = path
        self.purpose = purpose
        self.mayReplace = mayReplace
    }

    /// Opens or creates the file, mode 0600, empty, for reading and writing where that is possible.
    ///
    /// The process must have one thread only. A pipe or a device is opened for writing, and does not block.
    ///
    /// - Parameter user: the user and group that real root is about to become; nil if the ids stay.
    /// - Returns: The file, positioned at its beginning.
    /// - Throws: The reason why the file cannot be opened.
    public func open(becoming user: (user: UInt32, group: UInt32)?) throws(OutputFileError) -> OwnedFileDescriptor {
        guard let user else { return try open { unsafe Glibc.open(path, $0, 0o600) } }
        do throws(OutputFileError) {
            return try open { unsafe tapas_open_as(user.user, user.group, path, $0, 0o600) }
        } catch {
            guard error.errno == .permissionDenied || error.errno == .notPermitted else { throw error }
            guard let place = TrustedPath.resolve(path) else {
                throw OutputFileError(
                    "\(error); it is opened as user \(user.user), whom the program runs as: choose a folder that this "
                        + "user, or root alone, may write to", errno: error.errno)
            }
            return try open { unsafe openat(place.folder.rawValue, place.name, $0 | place.flags, 0o600) }
        }
    }

    /// Whether only root can have influenced the target of a path.
    ///
    /// - Parameter path: the path, whose last component need not exist.
    /// - Returns: false also if the path cannot be followed.
    public static func isInTrustedFolder(_ path: String) -> Bool {
        TrustedPath.resolve(path) != nil
    }

    private func open(_ call: (_ flags: CInt) -> CInt) throws(OutputFileError) -> OwnedFileDescriptor {
        let always = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (appends ? O_APPEND : 0)
        let made = call(O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | always)
        if made >= 0 { return OwnedFileDescriptor(taking: made) }
        guard currentErrno == .fileExists else { throw OutputFileError(currentErrno) }
        // Opening a pipe for writing is seen at its other end: a reader takes the closing of a first descriptor for the
        // end. And a pipe that this process has open for reading would never lack a reader. So a pipe is recognised first,
        // by a descriptor that opens nothing (O_PATH), and then opened once, for writing only.
        let isPipe = Self.isPipe(call(CInt(TAPAS_O_PATH) | O_CLOEXEC))
        var number = isPipe ? -1 : call(O_RDWR | always)
        let isReadable = number >= 0
        if !isReadable { number = call(O_WRONLY | always) }
        let file = try Self.taking(number)
        var status = stat()
        guard unsafe fstat(file.rawValue, &status) == 0 else { throw OutputFileError(currentErrno) }
        guard (status.st_mode & S_IFMT == S_IFIFO) == isPipe else {
            throw OutputFileError("was replaced while it was opened")
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG:
            guard status.st_size == 0 || isReadable && mayReplace(beginning(of: file)[...]) else {
                throw OutputFileError("exists and is not a \(purpose): remove it or choose another name")
            }
            guard appends || ftruncate(file.rawValue, 0) == 0 else { throw OutputFileError(currentErrno) }
        case S_IFIFO, S_IFCHR: break
        default: throw OutputFileError("is neither a file nor a pipe nor a character device")
        }
        return file
    }

    /// Whether a descriptor, which is closed, is that of a named pipe.
    private static func isPipe(_ number: CInt) -> Bool {
        guard number >= 0 else { return false }
        let descriptor = OwnedFileDescriptor(taking: number)
        var status = stat()
        return unsafe fstat(descriptor.rawValue, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO
    }

    private static func taking(_ number: CInt) throws(OutputFileError) -> OwnedFileDescriptor {
        if number >= 0 { return OwnedFileDescriptor(taking: number) }
        switch currentErrno {
        case .noSuchAddressOrDevice: throw OutputFileError("nobody reads this pipe", errno: .noSuchAddressOrDevice)
        case .noSuchFileOrDirectory: throw OutputFileError("the link leads nowhere", errno: .noSuchFileOrDirectory)
        case let errno: throw OutputFileError(errno)
        }
    }

    private func beginning(of file: borrowing OwnedFileDescriptor) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 64)
        let number = file.rawValue
        let result = transferring { unsafe pread(number, &bytes, bytes.count, 0) }
        guard case .bytes(let count) = result else { return [] }
        return Array(bytes.prefix(count))
    }
}

/// A path that only root can have influenced.
struct TrustedPath: ~Copyable {
    /// The folder of the last component.
    let folder: OwnedFileDescriptor
    /// The last component: a regular entry of root's, a link of procfs, or a name that does not exist yet.
    let name: String
    /// `O_NOFOLLOW`, except for a link of procfs.
    let flags: CInt

    /// Follows a path; nil if it cannot be followed, or if another user can have influenced it.
    static func resolve(_ path: String) -> TrustedPath? {
        var pending = Array(path.split(separator: "/").map { String($0) }.reversed())
        guard !path.isEmpty, var folder = start(path), isTrusted(folder) else { return nil }
        var links = 0
        while let name = pending.popLast() {
            let number = unsafe tapas_open_node(folder.rawValue, name)
            guard number >= 0 else {
                guard pending.isEmpty, currentErrno == .noSuchFileOrDirectory else { return nil }
                return TrustedPath(folder: folder, name: name, flags: O_NOFOLLOW)
            }
            let node = OwnedFileDescriptor(taking: number)
            var status = stat()
            guard unsafe fstat(number, &status) == 0, status.st_uid == 0 else { return nil }
            switch status.st_mode & S_IFMT {
            case S_IFLNK:
                // A link of procfs leads to what the process has open, not to the path in its text.
                if pending.isEmpty, isProc(folder) { return TrustedPath(folder: folder, name: name, flags: 0) }
                links += 1
                guard links <= 40, let target = SymbolicLink.target("", in: node.descriptor) else { return nil }
                pending += target.split(separator: "/").map { String($0) }.reversed()
                if target.hasPrefix("/") {
                    guard let root = start(target) else { return nil }
                    folder = root
                }
            case S_IFDIR:
                guard !pending.isEmpty, isTrusted(node) else { return nil }
                folder = node
            default:
                guard pending.isEmpty else { return nil }
                return TrustedPath(folder: folder, name: name, flags: O_NOFOLLOW)
            }
        }
        return nil
    }

    private static func start(_ path: String) -> OwnedFileDescriptor? {
        let number = unsafe tapas_open_node(AT_FDCWD, path.hasPrefix("/") ? "/" : ".")
        return number < 0 ? nil : OwnedFileDescriptor(taking: number)
    }

    /// Whether only root can replace entries that root has put into a folder.
    private static func isTrusted(_ folder: borrowing OwnedFileDescriptor) -> Bool {
        var status = stat()
        guard unsafe fstat(folder.rawValue, &status) == 0, status.st_uid == 0 else { return false }
        return status.st_mode & 0o022 == 0 || status.st_mode & S_ISVTX != 0
    }

    private static func isProc(_ folder: borrowing OwnedFileDescriptor) -> Bool {
        tapas_filesystem_type_of(folder.rawValue) == Int(PROC_SUPER_MAGIC)
    }
}
