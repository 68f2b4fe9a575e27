// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(data-path): close recvmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage
internal import VirtualMachine

/// Reads the messages of a virtual machine's program from its socket, with the descriptors that come along.
///
/// A message may arrive in pieces. One call never reads bytes of two messages, so all descriptors that a call returns
/// belong to the same message.
@safe
struct VhostUserChannel: ~Copyable {
    /// The result of reading.
    enum Next {
        /// A whole message; its descriptors can be taken until the next call.
        case message(VhostUserHeader, VhostUserMessage, descriptors: Int)
        /// The rest has not arrived yet.
        case incomplete
        /// The other end is closed, or the socket has an error.
        case ended
        /// Bytes that are no message, or too many descriptors.
        case broken
    }

    private static var capacity: Int { VhostUserHeader.length + VhostUserHeader.longestPayload }

    private let bytes: UnsafeMutableRawPointer
    /// The number of bytes of the message that have arrived.
    private var count = 0
    private let descriptors: UnsafeMutablePointer<CInt>
    private var descriptorCount: CInt = 0

    init() {
        unsafe bytes = .allocate(byteCount: Self.capacity, alignment: 8)
        unsafe descriptors = .allocate(capacity: VhostUserMessage.mostRegions)
    }

    deinit {
        for position in 0..<Int(descriptorCount) where unsafe descriptors[position] >= 0 {
            _ = unsafe Glibc.close(descriptors[position])
        }
        unsafe bytes.deallocate()
        unsafe descriptors.deallocate()
    }

    /// Discards an incomplete message, for another client.
    mutating func reset() {
        count = 0
        closeDescriptors()
    }

    /// Takes one of the message's descriptors.
    mutating func takeDescriptor(_ position: Int) -> OwnedFileDescriptor? {
        guard position < Int(descriptorCount), unsafe descriptors[position] >= 0 else { return nil }
        defer { unsafe descriptors[position] = -1 }
        return OwnedFileDescriptor(taking: unsafe descriptors[position])
    }

    private mutating func closeDescriptors() {
        for position in 0..<Int(descriptorCount) { _ = takeDescriptor(position) }
        descriptorCount = 0
    }

    /// Reads the next message.
    ///
    /// - Parameters:
    ///   - socket: the client's socket.
    ///   - rings: the number of rings.
    /// - Returns: The message, or the reason why there is none.
    mutating func next(from socket: CInt, rings: Int) -> Next {
        if count == 0 { closeDescriptors() }
        while true {
            var wanted = VhostUserHeader.length
            var header: VhostUserHeader?
            if count >= VhostUserHeader.length {
                let start = unsafe UnsafeRawBufferPointer(start: bytes, count: VhostUserHeader.length)
                guard let read = try? VhostUserHeader(unsafe start.bytes) else { return .broken }
                header = read
                wanted += read.size
            }
            if let header, count == wanted {
                count = 0
                let payload = unsafe UnsafeRawBufferPointer(start: bytes + VhostUserHeader.length, count: header.size)
                guard let message = try? VhostUserMessage(header, payload: unsafe payload.bytes, rings: rings) else {
                    return .broken
                }
                return .message(header, message, descriptors: Int(descriptorCount))
            }
            let place = unsafe bytes + count
            let room = wanted - count
            let received = unsafe tapas_receive_descriptors(
                socket, place, room, descriptors, CInt(VhostUserMessage.mostRegions), &descriptorCount)
            if received > 0 {
                count += received
            } else if received == 0 {
                return .ended
            } else {
                let error = currentErrno
                if error == .resourceTemporarilyUnavailable { return .incomplete }
                return error == .messageTooLong ? .broken : .ended
            }
        }
    }
}
