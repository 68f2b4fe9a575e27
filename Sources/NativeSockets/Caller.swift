// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): close fcntl fstat getdents64 kcmp newfstatat openat pidfd_open poll process_vm_readv
// syscalls: running(native-sockets): process_vm_writev read readlinkat

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// A thread of the command that has made a call, as the supervisor knows it.
///
/// What is known of it is kept until it ends, which its descriptor reports; its number may then be another thread's.
final class Caller {
    /// The thread's number in the supervisor's process namespace.
    let thread: pid_t
    /// A descriptor of the thread (PIDFD_THREAD), readable once it has ended.
    let descriptor: OwnedFileDescriptor
    /// The epoll instances among its descriptors when there were that many in the command.
    private var epolls: (generation: UInt64, numbers: [CInt]?) = (0, [])

    /// More descriptors than this are not searched for epoll instances.
    private static let mostDescriptors = 4096

    /// Opens a thread.
    ///
    /// - Throws: ESRCH if it has ended.
    init(_ thread: pid_t) throws(Errno) {
        let number = tapas_open_thread(thread)
        guard number >= 0 else { throw currentErrno }
        self.thread = thread
        descriptor = OwnedFileDescriptor(taking: number)
    }

    /// Whether it has ended.
    var hasEnded: Bool {
        var poll = pollfd(fd: descriptor.rawValue, events: Int16(POLLIN), revents: 0)
        return unsafe Glibc.poll(&poll, 1, 0) != 0
    }

    // MARK: Memory

    /// Reads memory of the thread, once.
    ///
    /// - Throws: EFAULT unless all of it can be read.
    func read(_ address: UInt64, _ count: Int) throws(Errno) -> [UInt8] {
        guard count > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: count)
        guard unsafe tapas_read_memory(thread, address, &bytes, count) == count else { throw .badAddress }
        return bytes
    }

    /// Writes memory of the thread.
    ///
    /// - Throws: EFAULT unless all of it can be written.
    func write(_ bytes: [UInt8], to address: UInt64) throws(Errno) {
        guard !bytes.isEmpty else { return }
        guard unsafe tapas_write_memory(thread, address, bytes, bytes.count) == bytes.count else { throw .badAddress }
    }

    // MARK: What /proc says

    /// The status of a thread.
    struct Status {
        /// Whether no other thread shares its descriptors.
        var isAlone = false
        /// The effective capabilities.
        var capabilities: UInt64 = 0
    }

    /// Reads its status; that of a thread with no rights if it cannot be read.
    func status(_ proc: CInt) -> Status {
        var status = Status()
        for line in text(proc, "\(thread)/status").split(separator: "\n") {
            let words = line.split { $0 == ":" || $0 == "\t" }
            guard words.count == 2 else { continue }
            if words[0] == "Threads" { status.isAlone = words[1] == "1" }
            if words[0] == "CapEff" { status.capabilities = UInt64(words[1], radix: 16) ?? 0 }
        }
        return status
    }

    /// Whether a descriptor is closed by execve(2); true if that is not known.
    func closesOnExec(_ proc: CInt, _ number: CInt) -> Bool {
        for line in text(proc, "\(thread)/fdinfo/\(number)").split(separator: "\n") where line.hasPrefix("flags:") {
            let word = line.dropFirst("flags:".count).drop { $0 == "\t" }
            return (CInt(word, radix: 8) ?? O_CLOEXEC) & O_CLOEXEC != 0
        }
        return true
    }

    /// Whether the thread is in the user namespace of this process.
    func sharesUserNamespace(_ proc: CInt) -> Bool {
        guard let own = Self.link(proc, "self/ns/user") else { return false }
        return own == Self.link(proc, "\(thread)/ns/user")
    }

    private func text(_ proc: CInt, _ path: String) -> String {
        let number = unsafe tapas_open_below(proc, path, O_RDONLY)
        guard number >= 0 else { return "" }
        let file = OwnedFileDescriptor(taking: number)
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe Glibc.read(file.rawValue, &bytes, bytes.count)
        return String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    }

    private static func link(_ folder: CInt, _ path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = unsafe bytes.withUnsafeMutableBytes { room in
            guard let base = room.baseAddress else { return 0 }
            return unsafe readlinkat(folder, path, base.assumingMemoryBound(to: CChar.self), room.count)
        }
        return count > 0 ? String(decoding: bytes.prefix(count), as: UTF8.self) : nil
    }

    // MARK: epoll

    /// Whether a descriptor is registered in an epoll instance of the thread, or may be.
    ///
    /// - Parameters:
    ///   - proc: the folder /proc.
    ///   - number: the descriptor.
    ///   - generation: the number of epoll instances that the command has made.
    /// - Returns: whether it is.
    func hasRegistered(_ proc: CInt, _ number: CInt, generation: UInt64) -> Bool {
        guard generation > 0 else { return false }
        if epolls.generation != generation { epolls = (generation, findEpolls(proc)) }
        guard let numbers = epolls.numbers else { return true }
        return numbers.contains { tapas_compare_registered(thread, $0, number) == 0 }
    }

    /// The epoll instances among the descriptors; nil if there are too many to look at.
    private func findEpolls(_ proc: CInt) -> [CInt]? {
        let number = unsafe tapas_open_below(proc, "\(thread)/fd", O_RDONLY | O_DIRECTORY)
        guard number >= 0 else { return nil }
        let folder = OwnedFileDescriptor(taking: number)
        // Names are read by a copy, since links are read in the folder afterwards.
        guard let copy = try? folder.duplicate(),
            // `.` and `..` are no descriptors.
            let names = Folder.names(closing: copy.release().rawValue, atMost: Self.mostDescriptors + 2)
        else { return nil }
        return names.compactMap { CInt($0) }.filter { Self.link(folder.rawValue, "\($0)") == "anon_inode:[eventpoll]" }
    }
}
