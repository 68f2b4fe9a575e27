// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import NetworkTypes
public import SystemPackage

/// The counters of a netlink socket.
public struct NetlinkCounters: Hashable, Sendable {
    /// Requests sent.
    public var requests = 0
    /// Dumps that were repeated because the table changed meanwhile (`NLM_F_DUMP_INTR`).
    public var interruptedDumps = 0
    /// Times that the socket's buffer overflowed (ENOBUFS).
    public var overflows = 0
    /// Datagrams that were longer than the buffer, which then grew.
    public var truncations = 0
    /// Messages that answered none of our requests: another sender, port or sequence number.
    public var strays = 0
    /// Datagrams and messages that could not be read.
    public var malformed = 0

    /// Makes counters of zero.
    public init() {}
}

/// An rtnetlink socket for requests, one at a time; each is answered before the call returns.
///
/// The kernel answers within the call that sends the request, so there is nothing to wait for in practice; each
/// operation still has a deadline. An answer counts only if it comes from the kernel and carries our port id and the
/// number of the request. An interrupted dump is read to its end, since a socket runs one dump at a time, and then
/// repeated, a bounded number of times.
///
/// Subscriptions have a type of their own, ``NetlinkSubscription``: notifications would fill the buffer for answers.
public struct NetlinkSocket: ~Copyable, @unchecked Sendable {
    // @unchecked: the transport is a class that is not shared. After `init` this value, which cannot be copied, is its
    // only owner, and every use of it is `mutating`.
    private let transport: any NetlinkTransport
    private var sequence: UInt32 = 0
    private var buffer: [UInt8]
    /// The socket's counters.
    public private(set) var counters = NetlinkCounters()
    /// How long one operation may take, in milliseconds.
    public var timeoutMilliseconds: Int64 = 5000
    /// How often a dump is tried before it fails.
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

    /// The descriptor, which the socket keeps; nil in tests.
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
    /// - Returns: What `parse` returned for the reply, which may be nil.
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

    /// Dumps a table; repeats the dump if the table changes meanwhile.
    ///
    /// - Returns: What `parse` returned for the messages, in the kernel's order.
    package mutating func dump<Value>(
        _ operation: @autoclosure () -> String, _ request: MessageWriter,
        _ parse: (_ type: UInt16, _ payload: Span<UInt8>) -> Value?
    ) throws(NetlinkError) -> [Value] {
        var values: [Value] = []
        try dump(operation(), request) {
            values = []
        } take: { type, payload in
            if let value = parse(type, payload) { values.append(value) }
        }
        return values
    }

    /// Dumps a table; repeats the dump if the table changes meanwhile.
    ///
    /// - Parameters:
    ///   - operation: The request, for errors.
    ///   - request: The request.
    ///   - begin: Called before each attempt; the messages taken before are discarded.
    ///   - take: Called with each message, in the kernel's order.
    /// - Throws: The error of the kernel or of the socket.
    package mutating func dump(
        _ operation: @autoclosure () -> String, _ request: MessageWriter, begin: () -> Void,
        take: (_ type: UInt16, _ payload: Span<UInt8>) -> Void
    ) throws(NetlinkError) {
        for _ in 0..<maximumAttempts {
            let sequence = try send(request, operation)
            begin()
            var outcome: Acknowledgement?
            var isInterrupted = false
            let integrity = try receive(operation, sequence) { header, payload in
                if header.isInterruptedDump { isInterrupted = true }
                if Int32(header.type) == NLMSG_DONE || Int32(header.type) == NLMSG_ERROR {
                    outcome = Acknowledgement(header, payload)
                    return true
                }
                take(header.type, payload)
                return false
            }
            if let outcome {
                // EBUSY: the end of an earlier dump was lost with an overflow; that dump is over at the next attempt.
                if outcome.errno == EBUSY { continue }
                try Self.check(outcome, operation)
            }
            if integrity == .complete, !isInterrupted { return }
            if isInterrupted { counters.interruptedDumps += 1 }
        }
        throw NetlinkError(operation(), .interrupted(attempts: maximumAttempts), .interrupted)
    }

    /// Sends requests that change something, many in one datagram, and collects the refusals.
    ///
    /// The kernel processes the requests of a datagram one after the other, whatever the result of each, and answers
    /// each error with the number of its request. Only the last request asks for an acknowledgement of success, whose
    /// answer ends the batch. A batch is so small that the answers fit the receive buffer even if every request is
    /// refused. If answers are lost nevertheless, or none come, each request of the batch without a refusal counts as
    /// failed, because its result is not known.
    ///
    /// - Parameters:
    ///   - count: The number of requests.
    ///   - request: Makes a request.
    ///   - operation: The words of ip(8) for a request, for errors.
    /// - Returns: The errors by the request's number, from 0.
    package mutating func changeAll(
        count: Int, request: (Int) -> MessageWriter, operation: (Int) -> String
    ) -> [Int: NetlinkError] {
        var errors: [Int: NetlinkError] = [:]
        var start = 0
        while start < count {
            let batch = start..<min(start + Self.batchCount, count)
            do throws(NetlinkError) {
                try change(batch, request, operation, &errors)
            } catch {
                // The socket failed, or no answer came in time; the rest cannot be expected to succeed.
                for index in start..<count where errors[index] == nil {
                    errors[index] = NetlinkError(operation(index), error.kind, error.errno)
                }
                return errors
            }
            start = batch.upperBound
        }
        return errors
    }

    /// The number of requests in a datagram.
    ///
    /// The answer to an error takes up to 1 KiB of the receive buffer, which has 208 KiB unless the administrator has
    /// changed `net.core.rmem_default`.
    private static let batchCount = 128

    private mutating func change(
        _ batch: Range<Int>, _ request: (Int) -> MessageWriter, _ operation: (Int) -> String,
        _ errors: inout [Int: NetlinkError]
    ) throws(NetlinkError) {
        // The numbers have no gap and leave out 0, which notifications carry.
        if sequence > .max - UInt32(Self.batchCount) { sequence = 0 }
        let first = sequence + 1
        var datagram: [UInt8] = []
        datagram.reserveCapacity(batch.count * 80)
        for index in batch {
            sequence += 1
            var message = request(index)
            guard !message.isOverlong else {
                throw NetlinkError(operation(index), .malformed, .messageTooLong)
            }
            datagram += message.finish(
                sequence: sequence, portID: portID, acknowledgesSuccess: index == batch.upperBound - 1)
        }
        let last = sequence
        counters.requests += batch.count
        do throws(SystemCallError) {
            try transport.send(datagram)
        } catch {
            throw NetlinkError(operation(batch.lowerBound), error)
        }
        var isEnded = false
        var refused: [Int: NetlinkError] = [:]
        let integrity = try receive({ operation(batch.lowerBound) }, first...last) { header, payload in
            guard Int32(header.type) == NLMSG_ERROR, let outcome = Acknowledgement(header, payload) else {
                return false
            }
            let index = batch.lowerBound + Int(header.sequence - first)
            if let error = Self.error(outcome, { operation(index) }) { refused[index] = error }
            isEnded = header.sequence == last
            return isEnded
        }
        errors.merge(refused) { _, new in new }
        guard integrity != .complete || !isEnded else { return }
        for index in batch where errors[index] == nil {
            errors[index] = NetlinkError(operation(index), .malformed, .noBufferSpace, message: "the answer was lost")
        }
    }

    // MARK: Helpers

    private static func check(_ outcome: Acknowledgement, _ operation: () -> String) throws(NetlinkError) {
        if let error = error(outcome, operation) { throw error }
    }

    private static func error(_ outcome: Acknowledgement, _ operation: () -> String) -> NetlinkError? {
        guard outcome.errno != 0 else { return nil }
        var message = outcome.message
        if let missing = outcome.missingAttribute, message == nil { message = "attribute \(missing) is missing" }
        return NetlinkError(
            operation(), .refused, Errno(rawValue: outcome.errno), message: message, offset: outcome.offset)
    }

    private mutating func send(
        _ request: MessageWriter, _ operation: () -> String
    ) throws(NetlinkError) -> UInt32 {
        guard !request.isOverlong else { throw NetlinkError(operation(), .malformed, .messageTooLong) }
        sequence &+= 1
        // Notifications carry 0.
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

    /// Whether every part of the answer was received.
    private enum Integrity {
        case complete
        case damaged
    }

    /// Receives until `take` reports that the answer is complete.
    ///
    /// - Parameters:
    ///   - operation: The request, for errors.
    ///   - sequence: The request's number.
    ///   - take: Processes one message of the answer and says whether it was the last.
    /// - Returns: Whether messages may have been lost.
    /// - Throws: The error of the socket, or ETIMEDOUT.
    private mutating func receive(
        _ operation: () -> String, _ sequence: UInt32,
        _ take: (_ header: MessageHeader, _ payload: Span<UInt8>) -> Bool
    ) throws(NetlinkError) -> Integrity {
        try receive(operation, sequence...sequence) { header, payload in take(header, payload) }
    }

    /// As above, for the answers to several requests with consecutive numbers.
    private mutating func receive(
        _ operation: () -> String, _ sequences: ClosedRange<UInt32>,
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
                    let isLast = read(buffer.count, sequences, &integrity, take)
                    buffer = [UInt8](repeating: 0, count: byteCount + (4096 - byteCount % 4096))
                    if isLast { return integrity }
                    continue
                }
                if read(byteCount, sequences, &integrity, take) { return integrity }
            case .overflow:
                counters.overflows += 1
                integrity = .damaged
            case .failed(let error):
                throw NetlinkError(operation(), .socket(call: "recvmsg"), error)
            case .empty:
                // If messages were lost, the last one may be among them; the rest of the dump ends at the next request.
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

    /// The result of reading one datagram.
    private struct Read {
        var isLast = false
        var strays = 0
        var isMalformed = false
        var isOverrun = false
    }

    /// Reads the messages of a datagram.
    ///
    /// - Returns: Whether the answer is complete.
    private mutating func read(
        _ byteCount: Int, _ sequences: ClosedRange<UInt32>, _ integrity: inout Integrity,
        _ take: (_ header: MessageHeader, _ payload: Span<UInt8>) -> Bool
    ) -> Bool {
        let read = Self.read(buffer.span.extracting(0..<byteCount), sequences, transport.portID, take)
        counters.strays += read.strays
        if read.isMalformed { counters.malformed += 1 }
        if read.isMalformed || read.isOverrun { integrity = .damaged }
        return read.isLast
    }

    private static func read(
        _ datagram: Span<UInt8>, _ sequences: ClosedRange<UInt32>, _ portID: UInt32,
        _ take: (_ header: MessageHeader, _ payload: Span<UInt8>) -> Bool
    ) -> Read {
        var result = Read()
        var walk = MessageWalk()
        while !result.isLast, let (header, payload) = walk.next(in: datagram) {
            guard sequences.contains(header.sequence), header.portID == portID else {
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
