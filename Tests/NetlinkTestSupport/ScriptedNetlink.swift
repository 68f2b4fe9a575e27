// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

package import LinuxSystem
package import Netlink
package import SystemPackage

/// A request as a kernel sees it.
package struct ScriptedRequest: Sendable {
    /// The header's fields.
    package var type: UInt16
    package var flags: UInt16
    package var sequence: UInt32
    package var portID: UInt32
    /// What follows the header.
    package var payload: [UInt8]
    /// The whole datagram.
    package var bytes: [UInt8]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        type = bytes.span.uint16(at: 4) ?? 0
        flags = bytes.span.uint16(at: 6) ?? 0
        sequence = bytes.span.uint32(at: 8) ?? 0
        portID = bytes.span.uint32(at: 12) ?? 0
        payload = Array(bytes.dropFirst(16))
    }

    /// Whether a dump is asked for: both bits of `NLM_F_DUMP`.
    package var isDump: Bool { flags & 0x300 == 0x300 }
}

/// A message as a kernel sends it.
package struct KernelMessage: Sendable {
    package var type: UInt16
    package var flags: UInt16
    package var payload: [UInt8]
    /// Overrides for faults; nil for what the request says.
    package var sequence: UInt32?
    package var portID: UInt32?
    /// Overrides the length field.
    package var length: UInt32?

    package init(_ type: UInt16, flags: UInt16 = 0, _ payload: [UInt8] = []) {
        self.type = type
        self.flags = flags
        self.payload = payload
    }

    /// A message from its captured bytes; its sequence and port are the request's again.
    package init(captured bytes: [UInt8]) {
        type = bytes.span.uint16(at: 4) ?? 0
        flags = bytes.span.uint16(at: 6) ?? 0
        payload = Array(bytes.dropFirst(16))
    }

    /// `NLMSG_ERROR`: the error as a positive number, the request's header, and what follows it.
    package static func acknowledgement(
        _ errno: Int32, of request: ScriptedRequest, flags: UInt16 = 0x100, attributes: [UInt8] = []
    ) -> KernelMessage {
        let extended: UInt16 = attributes.isEmpty ? 0 : 0x200
        return KernelMessage(
            2, flags: flags | extended, littleEndian(UInt32(bitPattern: -errno)) + request.bytes.prefix(16) + attributes
        )
    }

    /// `NLMSG_DONE` with an error as a positive number.
    package static func done(_ errno: Int32 = 0, flags: UInt16 = 2, attributes: [UInt8] = []) -> KernelMessage {
        KernelMessage(3, flags: flags, littleEndian(UInt32(bitPattern: -errno)) + attributes)
    }

    /// Whether this is an acknowledgement without an error.
    var isSuccess: Bool { type == 2 && payload.prefix(4).allSatisfy { $0 == 0 } }

    package func bytes(sequence: UInt32, portID: UInt32) -> [UInt8] {
        var bytes = littleEndian(length ?? UInt32(16 + payload.count))
        bytes += littleEndian(UInt32(type) | UInt32(flags) << 16)
        bytes += littleEndian(self.sequence ?? sequence)
        bytes += littleEndian(self.portID ?? portID)
        bytes += payload
        while !bytes.count.isMultiple(of: 4) { bytes.append(0) }
        return bytes
    }
}

/// A number's bytes in the order of the machines that the tests run on.
package func littleEndian(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) }
}

/// An attribute: length, type, payload, padding.
package func attribute(_ type: UInt16, _ payload: [UInt8]) -> [UInt8] {
    var bytes = littleEndian(UInt32(4 + payload.count) | UInt32(type) << 16) + payload
    while !bytes.count.isMultiple(of: 4) { bytes.append(0) }
    return bytes
}

/// A kernel that answers requests as a script says, faults included.
package final class ScriptedNetlink: NetlinkTransport {
    /// What arrives at the socket.
    package enum Arrival: Sendable {
        /// A datagram of messages from the kernel.
        case datagram([KernelMessage])
        /// The same from another process's port.
        case forged([KernelMessage], sender: UInt32)
        /// Bytes from the kernel as they are.
        case raw([UInt8])
        /// Messages were lost.
        case overflow
        /// The socket failed.
        case failure(Errno)
    }

    package let portID: UInt32 = 4242
    package let descriptor: FileDescriptor? = nil
    /// What was asked, in order.
    package private(set) var requests: [ScriptedRequest] = []
    private let answer: (ScriptedRequest, Int) -> [Arrival]
    /// What is on its way, with the number of the request that it answers; nil for that of the last request.
    private var queue: [(arrival: Arrival, sequence: UInt32?)] = []
    /// How many datagrams were sent.
    package private(set) var datagramCount = 0
    private var last: ScriptedRequest?

    /// Makes a kernel.
    ///
    /// - Parameter answer: The answer to a request, given how many came before it.
    package init(_ answer: @escaping (ScriptedRequest, Int) -> [Arrival] = { _, _ in [] }) {
        self.answer = answer
    }

    /// Lets something arrive that was not asked for.
    package func arrive(_ arrival: Arrival) {
        queue.append((arrival, nil))
    }

    package func send(_ datagram: [UInt8]) throws(SystemCallError) {
        datagramCount += 1
        // As the kernel does: a datagram may hold many requests, taken one after the other, and success is told only
        // of those that ask for it.
        var rest = datagram[...]
        while rest.count >= 16 {
            let length = Int(Array(rest.prefix(4)).span.uint32() ?? 0)
            let request = ScriptedRequest(Array(rest.prefix(max(16, length))))
            let wantsSuccess = request.flags & 4 != 0 || length == datagram.count
            for arrival in answer(request, requests.count) {
                if case .datagram(let messages) = arrival, !wantsSuccess, messages.allSatisfy(\.isSuccess) { continue }
                queue.append((arrival, request.sequence))
            }
            requests.append(request)
            last = request
            rest = rest.dropFirst(max(16, length + (4 - length % 4) % 4))
        }
    }

    package func receive(into buffer: inout [UInt8]) -> NetlinkReception {
        guard !queue.isEmpty else { return .empty }
        let (arrival, sequence) = queue.removeFirst()
        switch arrival {
        case .datagram(let messages): return deliver(assemble(messages, sequence), 0, &buffer)
        case .forged(let messages, let sender): return deliver(assemble(messages, sequence), sender, &buffer)
        case .raw(let bytes): return deliver(bytes, 0, &buffer)
        case .overflow: return .overflow
        case .failure(let error): return .failed(error)
        }
    }

    package func wait(until deadline: MonotonicTime) throws(SystemCallError) -> Bool {
        // What was not sent by now never comes.
        !queue.isEmpty
    }

    private func assemble(_ messages: [KernelMessage], _ sequence: UInt32?) -> [UInt8] {
        messages.flatMap { $0.bytes(sequence: sequence ?? last?.sequence ?? 0, portID: portID) }
    }

    private func deliver(_ bytes: [UInt8], _ sender: UInt32, _ buffer: inout [UInt8]) -> NetlinkReception {
        for (index, byte) in bytes.prefix(buffer.count).enumerated() { buffer[index] = byte }
        return .datagram(byteCount: bytes.count, sender: sender)
    }
}
