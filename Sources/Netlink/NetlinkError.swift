// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkTypes
public import SystemPackage

/// A netlink request that failed: the request in ip(8)'s words, the cause, and the kernel's own message.
public struct NetlinkError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Kind: Hashable, Sendable {
        /// The kernel answered with an error number.
        case refused
        /// A system call on the socket failed; its name.
        case socket(call: String)
        /// No answer came in time.
        case timedOut
        /// The table kept changing under each attempt to dump it, or answers were lost.
        case interrupted(attempts: Int)
        /// The answer, or the request, is not a netlink message.
        case malformed
    }

    /// The request in ip(8)'s words: "route add default via 192.0.2.1 dev 3".
    public var operation: String
    /// The kind.
    public var kind: Kind
    /// The error number.
    public var errno: Errno
    /// The kernel's message (netlink(7), extended acknowledgement).
    public var message: String?
    /// The byte of the request that the kernel objects to.
    public var offset: UInt32?

    /// Makes an error.
    public init(_ operation: String, _ kind: Kind, _ errno: Errno, message: String? = nil, offset: UInt32? = nil) {
        self.operation = operation
        self.kind = kind
        self.errno = errno
        self.message = message
        self.offset = offset
    }

    init(_ operation: String, _ error: SystemCallError) {
        self.init(operation, .socket(call: error.call), error.errno)
    }

    /// Whether the object to be added exists already (EEXIST), which is success if its state is the wanted one.
    public var alreadyExists: Bool { kind == .refused && errno == .fileExists }

    /// Whether the object to be removed or changed does not exist (ESRCH for routes, EADDRNOTAVAIL for addresses,
    /// ENODEV for links, ENOENT for rules), which is success for a removal.
    public var isAbsent: Bool {
        let absent: [Errno] = [
            .noSuchProcess, .addressNotAvailable, .operationNotSupportedByDevice, .noSuchFileOrDirectory,
            .noSuchAddressOrDevice,
        ]
        return kind == .refused && absent.contains(errno)
    }

    /// Whether a precondition is missing that may come later, so that a later attempt may succeed (ENETUNREACH,
    /// EHOSTUNREACH, ENETDOWN; EINVAL when the kernel names the gateway or the preferred source).
    public var mayResolve: Bool {
        guard kind == .refused else { return false }
        if errno == .networkUnreachable || errno == .noRouteToHost || errno == .networkDown { return true }
        guard errno == .invalidArgument, let message = message?.lowercased() else { return false }
        return message.hasPart("gateway") || message.hasPart("prefsrc") || message.hasPart("preferred source")
            || message.hasPart("source address")
    }

    /// `ip route add default via 192.0.2.1 dev 3: Nexthop has invalid gateway: Network is unreachable (ENETUNREACH)`.
    public var description: String {
        var text = "ip \(operation): "
        switch kind {
        case .refused: break
        case .socket(let call): text += "\(call): "
        case .timedOut: text += "no answer from the kernel: "
        case .interrupted(let attempts): text += "the table changed during each of \(attempts) attempts: "
        case .malformed: text += "not a netlink message: "
        }
        if let message, !message.isEmpty { text += "\(message): " }
        text += errno.explanation
        if let offset { text += ", at byte \(offset) of the request" }
        return text
    }
}
