// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
public import SystemPackage

/// A netlink request that failed: what was asked in ip(8)'s words, why, and what the kernel said about it.
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
    /// The kernel's own words (netlink(7), extended acknowledgement).
    public var message: String?
    /// Which byte of the request the kernel objects to.
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

    /// Whether what was to be added is there already (EEXIST): success, if the state is what was wanted.
    public var alreadyExists: Bool { kind == .refused && errno == .fileExists }

    /// Whether what was to be removed or changed is not there (ESRCH for routes, EADDRNOTAVAIL for addresses, ENODEV
    /// for links, ENOENT for rules): success of a removal.
    public var isAbsent: Bool {
        let absent: [Errno] = [
            .noSuchProcess, .addressNotAvailable, .operationNotSupportedByDevice, .noSuchFileOrDirectory,
            .noSuchAddressOrDevice,
        ]
        return kind == .refused && absent.contains(errno)
    }

    /// Whether what the object builds on is not there yet, so that a later attempt may succeed (ENETUNREACH,
    /// EHOSTUNREACH, ENETDOWN; EINVAL when the kernel blames the gateway or the preferred source).
    public var mayResolve: Bool {
        guard kind == .refused else { return false }
        if errno == .networkUnreachable || errno == .noRouteToHost || errno == .networkDown { return true }
        guard errno == .invalidArgument, let message = message?.lowercased() else { return false }
        return message.contains("gateway") || message.contains("prefsrc") || message.contains("preferred source")
            || message.contains("source address")
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
