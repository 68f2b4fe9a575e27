// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close poll recvmsg sendmsg shutdown socketpair
// syscalls: running(data-path, control, ports): close recvmsg sendmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// A message between the supervisor and the engine (Supervisor.swift), with a descriptor if it names one.
enum HandoverMessage: Hashable {
    /// Engine: keep this descriptor under a name, in the place of another one of that name.
    case keep(String)
    /// Engine: the descriptor of this name is not needed any more.
    case release(String)
    /// Engine: the namespace is connected.
    case ready
    /// Engine: somebody asks for the program's newest version.
    case upgrade
    /// Engine: it ends in an orderly way, and the program with it.
    case ended(Int32)
    /// Supervisor: here is the descriptor of this name.
    case given(String)
    /// Supervisor: these were all. The number of restarts, the process id of the supervisor, and why there was a restart.
    case begin(restarts: UInt32, instance: Int32, cause: String)
    /// Supervisor: what was asked for cannot be done.
    case refused(String)

    /// The longest message in bytes.
    static let greatestLength = 512

    /// The message's bytes: one for its kind, numbers with the lowest byte first, text as UTF-8.
    var bytes: [UInt8] {
        switch self {
        case .keep(let name): [1] + name.utf8
        case .release(let name): [2] + name.utf8
        case .ready: [3]
        case .upgrade: [4]
        case .ended(let status): [5] + Self.number(UInt32(bitPattern: status))
        case .given(let name): [6] + name.utf8
        case .begin(let restarts, let instance, let cause):
            [7] + Self.number(restarts) + Self.number(UInt32(bitPattern: instance)) + cause.utf8.prefix(400)
        case .refused(let text): [8] + text.utf8.prefix(400)
        }
    }

    /// Reads a message; nil if it is none.
    init?(_ bytes: ArraySlice<UInt8>) {
        guard let kind = bytes.first else { return nil }
        let rest = bytes.dropFirst()
        let text = String(decoding: rest, as: UTF8.self)
        switch kind {
        case 1: self = .keep(text)
        case 2: self = .release(text)
        case 3: self = .ready
        case 4: self = .upgrade
        case 5 where rest.count == 4: self = .ended(Int32(bitPattern: Self.number(rest)))
        case 6: self = .given(text)
        case 7 where rest.count >= 8:
            self = .begin(
                restarts: Self.number(rest.prefix(4)),
                instance: Int32(bitPattern: Self.number(rest.dropFirst(4).prefix(4))),
                cause: String(decoding: rest.dropFirst(8), as: UTF8.self))
        case 8: self = .refused(text)
        default: return nil
        }
    }

    private static func number(_ value: UInt32) -> [UInt8] {
        (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    private static func number(_ bytes: ArraySlice<UInt8>) -> UInt32 {
        bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }
}

/// One end of the socket between supervisor and engine.
final class HandoverChannel: Sendable {
    /// What was received.
    enum Received {
        /// A message, and the descriptor that came with it.
        case message(HandoverMessage, FileDescriptor?)
        /// Something that is no message.
        case nonsense
        /// Nothing at present.
        case nothing
        /// The other end is closed.
        case ended
    }

    private let socket: OwnedFileDescriptor

    /// Takes over a socket.
    init(_ socket: consuming OwnedFileDescriptor) {
        self.socket = socket
    }

    /// Makes both ends.
    ///
    /// - Parameter far: receives the other end.
    /// - Returns: this process's end.
    /// - Throws: The error of socketpair(2).
    static func pair(_ far: inout OwnedFileDescriptor?) throws(SystemCallError) -> HandoverChannel {
        var ends: [CInt] = [-1, -1]
        try retrying("socketpair") {
            unsafe Glibc.socketpair(
                AF_UNIX, CInt(SOCK_SEQPACKET.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0, &ends)
        }
        far = OwnedFileDescriptor(taking: ends[1])
        return HandoverChannel(OwnedFileDescriptor(taking: ends[0]))
    }

    /// The descriptor, lent.
    var descriptor: FileDescriptor { socket.descriptor }

    /// Sends a message; it waits while the other end does not read.
    ///
    /// - Throws: The error of sendmsg(2): EPIPE if the other end is closed.
    func send(_ message: HandoverMessage, with descriptor: FileDescriptor? = nil) throws(SystemCallError) {
        let bytes = message.bytes
        var number = descriptor?.rawValue ?? -1
        try retrying("sendmsg", "a message to the other process") {
            unsafe tapas_send_descriptors(socket.rawValue, bytes, bytes.count, &number, number < 0 ? 0 : 1)
        }
    }

    /// Receives what is there.
    func receive() -> Received {
        var bytes = [UInt8](repeating: 0, count: HandoverMessage.greatestLength)
        var descriptors: [CInt] = [-1]
        var count: CInt = 0
        let length = unsafe tapas_receive_descriptors(
            socket.rawValue, &bytes, bytes.count, &descriptors, 1, &count)
        if length == 0 { return .ended }
        guard length > 0 else {
            switch currentErrno {
            case .resourceTemporarilyUnavailable: return .nothing
            case .messageTooLong, .tooManyOpenFiles, .tooManyOpenFilesInSystem: return .nonsense
            default: return .ended
            }
        }
        let descriptor = count > 0 ? FileDescriptor(rawValue: descriptors[0]) : nil
        guard let message = HandoverMessage(bytes.prefix(length)) else {
            if let descriptor { HostSocket.close(descriptor.rawValue) }
            return .nonsense
        }
        return .message(message, descriptor)
    }

    /// Waits until there is something to receive, for so many milliseconds at most.
    func wait(milliseconds: CInt) -> Bool {
        var entry = pollfd(fd: socket.rawValue, events: CShort(POLLIN), revents: 0)
        var result: CInt
        repeat { result = unsafe poll(&entry, 1, milliseconds) } while result < 0 && currentErrno == .interrupted
        return result > 0
    }

    /// Closes both ways, which the other end sees; what it has sent can still be received.
    func close() {
        shutdown(socket.rawValue, CInt(SHUT_RDWR))
    }
}
