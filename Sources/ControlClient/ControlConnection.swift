// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): recvfrom sendto setsockopt

internal import Control
internal import CLinux
internal import Glibc
public import JSON
internal import LinuxSystem
internal import NetworkTypes
public import SystemPackage

/// Why a request to an instance failed: one line for people.
public struct ClientError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The line.
    public var description: String

    /// Makes an error.
    public init(_ description: String) {
        self.description = description
    }
}

/// A connection to the control socket of one instance; calls wait for their answers.
public struct ControlConnection: ~Copyable {
    /// The longest line that is accepted from an instance, in bytes.
    private static let greatestLine = 64 << 20

    /// Methods whose answers come when something happens.
    private static let unboundedMethods: Set<String> = ["watch", "wait"]
    /// How long a part of any other answer may take, in seconds.
    private static let patience = 10

    /// The path of the socket.
    public let path: String
    private let socket: OwnedFileDescriptor
    private var input: [UInt8] = []
    /// The position of the next line in ``input``.
    private var start = 0
    private var lastID: Int64 = 0

    /// Connects to a socket.
    ///
    /// - Parameter path: its path.
    /// - Throws: One line on why no instance answers there.
    public init(path: String) throws(ClientError) {
        guard let address = UnixSocketAddress(path: path) else {
            throw ClientError("'\(path)': no path of a socket; it has 1 to \(UnixSocketAddress.greatestLength) bytes")
        }
        socket = try Self.connected(to: address)
        self.path = path
    }

    private static func connected(to address: UnixSocketAddress) throws(ClientError) -> OwnedFileDescriptor {
        do throws(SystemCallError) {
            let socket = try UnixSocketAddress.socket(.stream, waits: true)
            try address.connect(socket.descriptor)
            return socket
        } catch {
            switch error.errno {
            case .noSuchFileOrDirectory: throw ClientError("'\(address.path)': there is no such socket")
            case .connectionRefused: throw ClientError("'\(address.path)': nobody listens; the instance has ended")
            default: throw ClientError("'\(address.path)': \(error.errno.explanation)")
            }
        }
    }

    /// Sends a request and receives its answers.
    ///
    /// - Parameters:
    ///   - method: the method.
    ///   - parameters: the parameters.
    ///   - descriptor: an open file to hand over with the request.
    ///   - onEvent: receives each part of the answer; returns false to stop.
    /// - Returns: the result; nil if `onEvent` has stopped the request.
    /// - Throws: The instance's error, or that the instance has ended.
    @discardableResult
    public mutating func request(
        _ method: String, _ parameters: JSONObject = JSONObject(), with descriptor: FileDescriptor? = nil,
        onEvent: (JSONValue) throws(ClientError) -> Bool = { (_) throws(ClientError) in true }
    ) throws(ClientError) -> JSONValue? {
        lastID += 1
        let request = ControlRequest(id: .number(lastID), method: method, parameters: parameters)
        guard request.line.count <= ControlRequest.greatestLength else {
            throw ClientError("the request is longer than \(ControlRequest.greatestLength) bytes: ask for less at once")
        }
        bound(Self.unboundedMethods.contains(method) ? 0 : Self.patience)
        try send(request.line, with: descriptor)
        while true {
            let line = try nextLine()
            let answer: ControlAnswer
            do throws(ControlError) {
                answer = try ControlAnswer(parsing: line)
            } catch {
                throw ClientError("'\(path)': \(error)")
            }
            guard answer.id == nil || answer.id == request.id else { continue }
            switch answer.body {
            case .result(let value): return value
            case .event(let value): if try !onEvent(value) { return nil }
            case .error(let error): throw ClientError("\(error)\(PortOwner.remark(error))")
            }
        }
    }

    /// Bounds the time that each part of an answer may take: an instance that is stopped holds up nobody for ever.
    private func bound(_ seconds: Int) {
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            var time = timeval(tv_sec: seconds, tv_usec: 0)
            // This cannot fail with a socket and a sound time; without it the client would wait for longer.
            unsafe _ = setsockopt(
                socket.rawValue, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    private func send(_ line: [UInt8], with descriptor: FileDescriptor?) throws(ClientError) {
        if let descriptor {
            do throws(SystemCallError) {
                try ControlDescriptorPassing.send(line, with: descriptor, to: socket.descriptor)
            } catch {
                throw ClientError("'\(path)': \(error.errno.explanation)")
            }
            return
        }
        let number = socket.rawValue
        var done = 0
        while done < line.count {
            let rest = done
            let result = transferring {
                unsafe line.withUnsafeBytes {
                    unsafe Glibc.send(
                        number, $0.baseAddress?.advanced(by: rest), $0.count - rest, CInt(MSG_NOSIGNAL))
                }
            }
            if case .wouldBlock = result { throw silent }
            guard case .bytes(let count) = result else { throw ended }
            done += count
        }
    }

    private mutating func nextLine() throws(ClientError) -> [UInt8] {
        var searched = start
        while true {
            if let end = input[searched...].firstIndex(of: 0x0A) {
                let line = Array(input[start..<end])
                start = end + 1
                return line
            }
            searched = input.count
            if start > 0 {
                input.removeFirst(start)
                searched -= start
                start = 0
            }
            guard input.count <= Self.greatestLine else { throw ClientError("'\(path)': an answer has no end") }
            var buffer = [UInt8](repeating: 0, count: 65_536)
            let number = socket.rawValue
            let result = transferring { unsafe recv(number, &buffer, buffer.count, 0) }
            if case .wouldBlock = result { throw silent }
            guard case .bytes(let count) = result, count > 0 else { throw ended }
            input += buffer[..<count]
        }
    }

    private var silent: ClientError {
        ClientError("'\(path)': no answer within \(Self.patience) s; the instance is stopped or very busy")
    }

    private var ended: ClientError { Self.endOfInstance(path) }
}

extension ControlConnection {
    /// Sends a request and receives its result.
    ///
    /// - Parameters:
    ///   - method: the method.
    ///   - parameters: the parameters.
    /// - Returns: the result.
    /// - Throws: The instance's error, or that the instance has ended.
    public mutating func result(
        _ method: String, _ parameters: JSONObject = JSONObject()
    ) throws(ClientError) -> JSONValue {
        try request(method, parameters) ?? .null
    }

    /// The error of an instance that has ended before its answer.
    ///
    /// - Parameter path: the path of its socket.
    /// - Returns: the error.
    public static func endOfInstance(_ path: String) -> ClientError { ClientError("'\(path)': the instance has ended") }
}
