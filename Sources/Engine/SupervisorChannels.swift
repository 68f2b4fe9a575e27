// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The process that started the program may need to know when the namespace is connected, and may need to end the
// program without knowing its process id. Besides the exit of the launcher there are three ways: a descriptor that is
// written to (`--ready-fd`), a descriptor whose other end is closed (`--exit-fd`), both as in slirp4netns(1), and the
// service manager's socket (`NOTIFY_SOCKET`, sd_notify(3)). The descriptors are checked before anything is set up. The
// service manager's socket is connected then, too, because its path is out of reach later.
// syscalls: setup(main): close fcntl fstat newfstatat sendto write

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Options
internal import SystemPackage

/// The processes that wait until the program is ready, or that end it.
final class SupervisorChannels {
    /// Written to once, then closed.
    private var ready: OwnedFileDescriptor?
    private let exitOwner: OwnedFileDescriptor?
    private let managerOwner: OwnedFileDescriptor?
    /// Ends the program when its other end is closed; without ownership.
    let exit: FileDescriptor?
    /// The socket of the service manager, if it has started the program; without ownership.
    private let manager: FileDescriptor?
    /// The descriptors that must stay open, without ownership.
    let descriptors: [FileDescriptor]

    /// Takes the descriptors of the command line, and connects to the service manager.
    ///
    /// - Throws: One line, if a descriptor is not open, or is of a kind that cannot serve.
    init(_ invocation: Invocation) throws(Failure) {
        ready = try Self.take(invocation.readyDescriptor, .ready)
        exitOwner = try Self.take(invocation.exitDescriptor, .exit)
        exit = invocation.exitDescriptor.map { FileDescriptor(rawValue: $0) }
        if let socket = Self.connectToManager() {
            manager = socket.descriptor
            managerOwner = consume socket
        } else {
            manager = nil
            managerOwner = nil
        }
        let first = invocation.readyDescriptor.map { FileDescriptor(rawValue: $0) }
        descriptors = [first, exit, manager].compactMap { $0 }
    }

    /// Reports that the network is ready: writes "1" to the descriptor, which is then closed, and `READY=1` to the
    /// manager.
    ///
    /// - Parameter processID: The process that the manager must watch from now on.
    /// - Throws: One line, if the reader of the descriptor is gone.
    func reportReady(processID: Int32) throws(Failure) {
        if let ready = ready.take() {
            do throws(SystemCallError) {
                try retrying("write", "--ready-fd") { unsafe write(ready.rawValue, "1", 1) }
            } catch {
                throw Failure("\(OptionDescription.of(.readyFD).longName) \(ready.rawValue)", error)
            }
        }
        notifyManager("READY=1\nMAINPID=\(processID)")
    }

    /// Reports to the manager that the program ends.
    func reportStopping() { notifyManager("STOPPING=1") }

    /// If the manager does not accept a state, it is lost; nothing here depends on it.
    private func notifyManager(_ state: String) {
        guard let socket = manager?.rawValue else { return }
        let bytes = Array(state.utf8)
        _ = transferring { unsafe send(socket, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }
    }

    private enum Purpose {
        case ready, exit
        var option: OptionName { self == .ready ? .readyFD : .exitFD }
    }

    private static func take(_ number: Int32?, _ purpose: Purpose) throws(Failure) -> OwnedFileDescriptor? {
        guard let number else { return nil }
        let option = OptionDescription.of(purpose.option).longName
        let flags = fcntl(number, F_GETFL)
        guard flags >= 0 else {
            throw Failure("\(option) \(number): the descriptor is not open; redirect it, as in \(number)>FILE")
        }
        if purpose == .ready, flags & O_ACCMODE == O_RDONLY {
            throw Failure("\(option) \(number): it is open for reading only; give one that can be written to")
        }
        if purpose == .exit {
            var status = stat()
            guard unsafe fstat(number, &status) == 0, [S_IFIFO, S_IFSOCK].contains(status.st_mode & S_IFMT) else {
                throw Failure("\(option) \(number): only a pipe or a socket has another end; give one of these")
            }
        }
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        return OwnedFileDescriptor(taking: number)
    }

    private static func connectToManager() -> OwnedFileDescriptor? {
        guard let value = unsafe getenv("NOTIFY_SOCKET") else { return nil }
        guard let address = UnixSocketAddress(notifying: unsafe String(cString: value)) else { return nil }
        do throws(SystemCallError) {
            let socket = try UnixSocketAddress.socket(.datagrams)
            try address.connect(socket.descriptor)
            return socket
        } catch {
            return nil
        }
    }
}
