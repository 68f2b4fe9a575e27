// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
internal import Netlink
internal import SystemPackage

/// An operation on namespaces that failed: what was attempted, the cause, and the remedy, in one line.
public struct NamespaceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The attempt: "cannot open network namespace /run/netns/x".
    public var attempt: String
    /// The kernel's error; nil if the reason is part of ``attempt``.
    public var cause: SystemCallError?
    /// What a person can do about it; nil if the cause makes that clear.
    public var remedy: String?

    /// Makes an error.
    public init(_ attempt: String, _ cause: SystemCallError? = nil, remedy: String? = nil) {
        self.attempt = attempt
        self.cause = cause
        self.remedy = remedy
    }

    /// One line: attempt, cause, remedy.
    public var description: String {
        var text = attempt
        if let cause { text += ": \(cause.errno.explanation)" }
        if let remedy { text += "; \(remedy)" }
        return text
    }

    /// The error of `/dev/net/tun`, with the remedy for its errno.
    ///
    /// - Parameters:
    ///   - cause: the error of open(2).
    ///   - modeAllows: whether the node's owner and mode allow access, so that something else has denied it.
    /// - Returns: one line.
    public static func tunDevice(_ cause: SystemCallError, modeAllows: Bool = false) -> NamespaceError {
        let remedy: String? =
            switch cause.errno {
            case .noSuchFileOrDirectory:
                "load the module (modprobe tun), or make the node: "
                    + "mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200 "
                    + "(in a container: --device /dev/net/tun)"
            case .permissionDenied where modeAllows:
                "its mode allows it, so its file system is mounted with nodev (see findmnt -T /dev/net/tun), "
                    + "or a security module forbids it"
            case .permissionDenied:
                "let users open it: chmod 0666 /dev/net/tun (as root; udev's default), or check the security policy"
            case .notPermitted:
                "a device policy forbids it: allow character device 10:200 "
                    + "(in a container: --device /dev/net/tun; with systemd: DeviceAllow=/dev/net/tun)"
            case .operationNotSupportedByDevice, .noSuchAddressOrDevice:
                "the kernel has no tun driver: load the module (modprobe tun) or build it with CONFIG_TUN"
            case .isDirectory, .notDirectory, .tooManySymbolicLinkLevels: wrongNodeRemedy
            default: nil
            }
        return NamespaceError("cannot open /dev/net/tun", cause, remedy: remedy)
    }

    private static let wrongNodeRemedy =
        "put the node in its place: rm -r /dev/net/tun && mknod -m 666 /dev/net/tun c 10 200 "
        + "(in a container: --device /dev/net/tun)"

    private static let administrationRemedy =
        "CAP_NET_ADMIN over the network namespace is needed: name its user namespace with --userns"

    /// The error of setting `lo` up.
    static func loopback(_ cause: any Error) -> NamespaceError {
        let isForbidden = (cause as? NetlinkError)?.errno == .notPermitted
        return NamespaceError(
            "cannot set lo up in the namespace: \(cause)", remedy: isForbidden ? administrationRemedy : nil)
    }

    /// The error of making the tap interface.
    public static func tapInterface(_ name: String, _ cause: SystemCallError) -> NamespaceError {
        if cause.errno == .inappropriateIOCTLForDevice {
            return NamespaceError("/dev/net/tun is not the tun device", cause, remedy: wrongNodeRemedy)
        }
        let remedy: String? =
            switch cause.errno {
            case .resourceBusy:
                "the namespace has an interface of that name: choose another with --ns-ifname"
            case .notPermitted: administrationRemedy
            case .invalidArgument: "the kernel does not take this name"
            default: nil
            }
        return NamespaceError("cannot make interface '\(name)' in the namespace", cause, remedy: remedy)
    }

    /// The error of creating a user namespace.
    static func userNamespace(_ cause: SystemCallError) -> NamespaceError {
        let remedy: String? =
            switch cause.errno {
            case .notPermitted, .permissionDenied:
                "user namespaces are switched off for you: see sysctl kernel.unprivileged_userns_clone, "
                    + "kernel.apparmor_restrict_unprivileged_userns, or the container's seccomp policy"
            case .noSpace, .tooManyUsers:
                "the limit is reached: raise sysctl user.max_user_namespaces"
            case .invalidArgument: "the kernel was built without user namespaces (CONFIG_USER_NS)"
            default: nil
            }
        return NamespaceError("cannot create a user namespace", cause, remedy: remedy)
    }
}
