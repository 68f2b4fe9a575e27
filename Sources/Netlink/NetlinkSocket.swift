// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import NetworkTypes
public import SystemPackage

/// What a netlink socket has been through.
public struct NetlinkCounters: Hashable, Sendable {
    /// Requests sent.
    public var requests = 0
    /// Dumps begun again because the table changed meanwhile (`NLM_F_DUMP_INTR`).
    public var interruptedDumps = 0
    /// Times that the socket's buffer overflowed (ENOBUFS).
    public var overflows = 0
    /// Datagrams that were longer than the buffer, which then grew.
    public var truncations = 0
    /// Messages that answered no request of ours: another sender, port or sequence number.
    public var strays = 0
    /// Datagrams and messages that could not be read.
    public var malformed = 0

    /// Makes counters of nothing.
    public init() {}
}

/// An rtnetlink socket for requests: one at a time, each answered before the call returns.
///
/// The kernel answers within the call that asks, so that nothing waits in practice; each operation still has a deadline.
/// An answer counts only if it comes from the kernel, carries our port id, and the number of the request. A dump that
/// was interrupted is read to its end (a socket runs one dump at a time) and begun again, a bounded number of times.
///
/// Subscriptions are another type, ``NetlinkSubscription``: notifications would fill the requests' buffer.
public struct NetlinkSocket: ~Copyable, @unchecked Sendable {
    // @unchecked: the transport is a class that is not shared; this value, which cannot be copied, is its only owner
    // after `init`, and all use of it is `mutating`.
    private let transport: any NetlinkTransport
    private var sequence: UInt32 = 0
    private var buffer: [UInt8]
    /// What the socket has been through.
    public private(set) var counters = NetlinkCounters()
    /// How long one operation may take, in milliseconds.
    public var timeoutMilliseconds: Int64 = 5000
    /// How often a dump is tried before it is given up.
    package var maximumAttempts = 8

    /// Opens a socket in the calling thread's network namespace.
    ///
    /// - Throws: The error of socket(2), bind(2) or setsockopt(2).
    public init() throws(SystemCallError) {
        self.init(over: try MnlTransport(groups: []))
    }

    /// Makes a socket over a transport, which must not be shared.
    package init(over transport: any NetlinkTransport) {
        self.transport = transport
        buffer = [UInt8](repeating: 0, count: 32768)
    }

    /// The port id that the kernel assigned.
    public var portID: UInt32 { transport.portID }

    /// The descriptor, lent; nil in tests.
    public var descriptor: FileDescriptor? { transport.descriptor }

    // MARK: Requests

    /// Sends a request that changes something and waits for its acknowledgement.
    package mutating func change(
        _ operation: @autoclosure () -> String, _ request: MessageWriter
    ) throws(NetlinkError) {
        let sequence = try send(request, operation)
        var outcome: Acknowledgement?
        let integrity = try receive(operation, sequence) { header, payload in
            guard Int32(header.type) == NLMSG_ERROR else { return false }
            outcome = Acknowledgement(header, payload)
            return true
        }
        guard integrity == .complete, let outcome else { throw NetlinkError(operation(), .malformed, .badMessage) }
        try Self.check(outcome, operation)
    }

    /// Sends a request for one object.
    ///
    /// - Returns: What `parse` made of the reply; nil if it made nothing of it.
    package mutating func get<Value>(
        _ operation: @autoclosure () -> String, _ request: MessageWriter,
        _ parse: (_ type: UInt16, _ payload: Span<UInt8>) -> Value?
    ) throws(NetlinkError) -> Value? {
        let sequence = try send(request, operation)
        var outcome: Acknowledgement?
        var value: Value?
        let integrity = try receive(operation, sequence) { header, payload in
            if Int32(header.type) == NLMSG_ERROR {
                outcome = Acknowledgement(header, payload)
                return true
            }
            value = parse(header.type, payload)
            // A request with NLM_F_ACK is acknowledged after its reply.
            return request.bytes.span.uint16(at: 6).map { $0 & UInt16(NLM_F_ACK) == 0 } ?? true
        }
        guard integrity == .complete else { throw NetlinkError(operation(), .malformed, .badMessage) }
        if let outcome { try Self.check(outcome, operation) }
        return value
    }

    /// Dumps a table: again from the start while it changes under the dump.
    ///
    /// - Returns: What `parse` made of the messages, in the kernel's order.
    package mutating func dump<Value>(
        _ operation: @autoclosure () -> String, _ request: MessageWriter,
        _ parse: (_ type: UInt16, _ payload: Span<UInt8>) -> Value?
    ) throws(NetlinkError) -> [Value] {
        for _ in 0..<maximumAttempts {
            let sequence = try send(request, operation)
            var values: [Value] = []
            var outcome: Acknowledgement?
            var isInterrupted = false
            let integrity = try receive(operation, sequence) { header, payload in
                if header.isInterruptedDump { isInterrupted = true }
                if Int32(header.type) == NLMSG_DONE || Int32(header.type) == NLMSG_ERROR {
                    outcome = Acknowledgement(header, payload)
                    return true
                }
                if let value = parse(header.type, payload) { values.append(value) }
                return false
            }
            if let outcome {
                // EBUSY: the end of an earlier dump was lost with an overflow; the next attempt finds it over.
                if outcome.errno == EBUSY { continue }
                try Self.check(outcome, operation)
            }
            if integrity == .complete, !isInterrupted { return values }
            if isInterrupted { counters.interruptedDumps += 1 }
        }
        throw NetlinkError(operation(), .interrupted(attempts: maximumAttempts), .interrupted)
    }

    // MARK: Helpers

    private static func check(_ outcome: Acknowledgement, _ operation: () -> String) throws(NetlinkError) {
        guard outcome.errno != 0 else { return }
        var message = outcome.message
        if let missing = outcome.missingAttribute, message == nil { message = "attribute \(missing) is missing" }
        throw NetlinkError(
            operation(), .refused, Errno(rawValue: outcome.errno), message: message, offset: outcome.offset)
    }

    private mutating func send(
        _ request: MessageWriter, _ operation: () -> String
    ) throws(NetlinkError) -> UInt32 {
        guard !request.isOverlong else { throw NetlinkError(operation(), .malformed, .messageTooLong) }
        sequence &+= 1
        // 0 is what notifications carry.
        if sequence == 0 { sequence = 1 }
        counters.requests += 1
        var request = request
        let datagram = request.finish(sequence: sequence, portID: portID)
        do throws(SystemCallError) {
            try transport.send(datagram)
        } catch {
            throw NetlinkError(operation(), error)
        }
        return sequence
    }

    /// Whether all that was sent in answer was seen.
    private enum Integrity {
        case complete
        case damaged
    }

    /// Receives until `take` says that the answer is whole.
    ///
    /// - Parameters:
    ///   - operation: The request, for errors.
    ///   - sequence: The request's number.
    ///   - take: Takes one message that answers the request and says whether it was the last.
    /// - Returns: Whether messages may have been lost.
    /// - Throws: The error of the socket, or ETIMEDOUT.
    private mutating func receive(
        _ operation: () -> String, _ sequence: UInt32,
        _ take: (_ header: MessageHeader, _ payload: Span<UInt8>) -> Bool
    ) throws(NetlinkError) -> Integrity {
        let deadline = MonotonicTime.now.advanced(milliseconds: timeoutMilliseconds)
        var integrity = Integrity.complete
        while true {
            switch transport.receive(into: &buffer) {
            case .datagram(let byteCount, let sender):
                guard sender == 0 else {
                    counters.strays += 1
                    continue
                }
                guard byteCount <= buffer.count else {
                    counters.truncations += 1
                    integrity = .damaged
                    let isLast = read(buffer.count, sequence, &integrity, take)
                    buffer = [UInt8](repeating: 0, count: byteCount + (4096 - byteCount % 4096))
                    if isLast { return integrity }
                    continue
                }
                if read(byteCount, sequence, &integrity, take) { return integrity }
            case .overflow:
                counters.overflows += 1
                integrity = .damaged
            case .failed(let error):
                throw NetlinkError(operation(), .socket(call: "recvmsg"), error)
            case .empty:
                // After lost messages the last may be among them: what is left of the dump ends at the next request.
                if integrity == .damaged { return integrity }
                do throws(SystemCallError) {
                    if try !transport.wait(until: deadline) {
                        throw SystemCallError("poll", "", .timedOut)
                    }
                } catch {
                    let kind: NetlinkError.Kind = error.errno == .timedOut ? .timedOut : .socket(call: error.call)
                    throw NetlinkError(operation(), kind, error.errno)
                }
            }
            if MonotonicTime.now > deadline { throw NetlinkError(operation(), .timedOut, .timedOut) }
        }
    }

    /// What reading one datagram came to.
    private struct Read {
        var isLast = false
        var strays = 0
        var isMalformed = false
        var isOverrun = false
    }

    /// Reads the messages of a datagram.
    ///
    /// - Returns: Whether the answer is whole.
    private mutating func read(
        _ byteCount: Int, _ sequence: UInt32, _ integrity: inout Integrity,
        _ take: (_ header: MessageHeader, _ payload: Span<UInt8>) -> Bool
    ) -> Bool {
        let read = Self.read(buffer.span.extracting(0..<byteCount), sequence, transport.portID, take)
        counters.strays += read.strays
        if read.isMalformed { counters.malformed += 1 }
        if read.isMalformed || read.isOverrun { integrity = .damaged }
        return read.isLast
    }

    private static func read(
        _ datagram: Span<UInt8>, _ sequence: UInt32, _ portID: UInt32,
        _ take: (_ header: MessageHeader, _ payload: Span<UInt8>) -> Bool
    ) -> Read {
        var result = Read()
        var walk = MessageWalk()
        while !result.isLast, let (header, payload) = walk.next(in: datagram) {
            guard header.sequence == sequence, header.portID == portID else {
                result.strays += 1
                continue
            }
            switch Int32(header.type) {
            case NLMSG_NOOP: break
            case NLMSG_OVERRUN: result.isOverrun = true
            default: result.isLast = take(header, datagram.extracting(payload))
            }
        }
        result.isMalformed = walk.isDamaged
        return result
    }
}
