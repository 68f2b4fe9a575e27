// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
public import SystemPackage

/// A system call that failed: which, on what, and why.
public struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The call as its manual page names it.
    public var call: String
    /// What it was applied to, for people: a path, an address, a name; may be empty.
    public var operand: String
    /// The error.
    public var errno: Errno

    /// Makes an error.
    public init(_ call: String, _ operand: String = "", _ errno: Errno) {
        self.call = call
        self.operand = operand
        self.errno = errno
    }

    /// `bind([::]:8080): Address already in use (EADDRINUSE)`.
    public var description: String {
        "\(call)(\(operand)): \(errno.explanation)"
    }
}

extension Errno {
    /// The text of strerror(3) with the symbol: "No such file or directory (ENOENT)".
    public var explanation: String {
        "\(description) (\(symbol))"
    }

    /// The symbol of errno(3): "ENOENT".
    public var symbol: String {
        guard let name = unsafe tapas_errno_name(rawValue) else { return "errno \(rawValue)" }
        return unsafe String(cString: name)
    }
}

/// The calling thread's errno; read it right after the call that failed.
@inlinable
@inline(__always)
public var currentErrno: Errno { Errno(rawValue: lastErrno()) }

/// The number behind ``currentErrno``.
@usableFromInline
func lastErrno() -> CInt { errno }

/// Calls `body` again whenever a signal has interrupted it (EINTR).
///
/// - Returns: What `body` returned, never negative.
/// - Throws: The error of a call that returned a negative number.
@discardableResult
public func retrying<Result: SignedInteger>(
    _ call: StaticString, _ operand: @autoclosure () -> String = "", _ body: () -> Result
) throws(SystemCallError) -> Result {
    while true {
        let result = body()
        if result >= 0 { return result }
        let error = currentErrno
        if error == .interrupted { continue }
        throw SystemCallError("\(call)", operand(), error)
    }
}

/// The result of a call that moves bytes or datagrams without waiting.
public enum IOResult: Hashable, Sendable {
    /// The number of bytes or datagrams; 0 is the end of the stream where the call has one.
    case bytes(Int)
    /// The call cannot do anything without waiting (EAGAIN).
    case wouldBlock
    /// An error of the object, not of the program.
    case failed(Errno)
}

/// Makes one non-blocking call that moves data, again whenever a signal has interrupted it.
///
/// EBADF, EFAULT and ENOTSOCK are bugs of the program, so they trap in debug builds.
@inlinable
@inline(__always)
public func transferring(_ body: () -> Int) -> IOResult {
    while true {
        let result = body()
        if result >= 0 { return .bytes(result) }
        let error = currentErrno
        switch error {
        case .interrupted: continue
        case .resourceTemporarilyUnavailable: return .wouldBlock
        default:
            assert(
                error != .badFileDescriptor && error != .badAddress && error != .notSocket,
                "a descriptor or buffer was used after its life")
            return .failed(error)
        }
    }
}
