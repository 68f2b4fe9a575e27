// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
public import LinuxSystem
public import NetworkModel
public import SystemPackage

/// Why ports cannot be forwarded; nothing has changed then.
public enum PortForwardingError: Error {
    /// An explicit port cannot be listened on.
    case cannotListen(Port, SystemCallError, remark: String?)
    /// None of the ports of a best-effort rule can be listened on.
    case nothingToListenOn(PortForward, Errno)
    /// The ports need more descriptors than the process may have.
    case tooFewDescriptors(needed: Int, available: Int, limit: Int)
    /// The namespace's thread cannot make sockets.
    case noNamespaceSockets(Errno)
    /// The listening sockets of the other side cannot be listed, which `auto` rules need.
    case noScan
    /// The function that computes the new rules refuses, for this reason.
    case refused(String)

    /// A port as messages name it.
    public struct Port: Hashable, Sendable, CustomStringConvertible {
        var direction: ForwardDirection
        var transport: TransportProtocol
        var place: String
        /// The port alone.
        var number: UInt16

        /// `TCP port 127.0.0.1:8080`, `UDP port 53 in the namespace`.
        public var description: String {
            "\(transport) port \(place)\(direction == .outbound ? " in the namespace" : "")"
        }
    }
}

extension PortForwardingError {
    /// The port of the host that another process has, where that is what went wrong.
    public var portInUse: (transport: TransportProtocol, number: UInt16)? {
        guard case .cannotListen(let port, let error, _) = self, error.errno == .addressInUse,
            port.direction == .inbound
        else { return nil }
        return (port.transport, port.number)
    }
}

extension PortForwardingError: CustomStringConvertible {
    /// One line: what cannot be done, why, and a remedy.
    public var description: String {
        switch self {
        case .cannotListen(let port, let cause, let remark):
            "cannot listen on \(port): \(cause.errno.explanation)\(remark.map { "; \($0)" } ?? "")"
        case .nothingToListenOn(let rule, let errno):
            "cannot listen on any port of \(rule): \(errno.explanation)"
        case .tooFewDescriptors(let needed, let available, let limit):
            """
            \(needed) descriptors are needed to listen on all ports, and the limit of \(limit) leaves \(available); \
            forward fewer ports, or raise the limit (ulimit -Hn, LimitNOFILE=)
            """
        case .noNamespaceSockets(let errno):
            "cannot make sockets in the namespace: \(errno.explanation)"
        case .noScan:
            "the kernel does not tell which ports are listened on (sock_diag(7)), which 'auto' goes by; name the ports"
        case .refused(let reason): reason
        }
    }
}
