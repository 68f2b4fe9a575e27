// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A transport protocol that is forwarded.
public enum TransportProtocol: String, Hashable, Sendable, CustomStringConvertible {
    /// TCP (`IPPROTO_TCP`).
    case tcp = "TCP"
    /// UDP (`IPPROTO_UDP`).
    case udp = "UDP"

    /// "TCP" or "UDP".
    public var description: String { rawValue }
}

/// Which side listens.
public enum ForwardDirection: Hashable, Sendable {
    /// The host listens, and connections go to the namespace (`-t`, `-u`).
    case inbound
    /// The namespace's loopback listens, and connections go to the host (`-T`, `-U`).
    case outbound
}

/// One rule of the forwarding table: a contiguous run of ports (tapas(1), "Port specifications").
public struct PortForward: Hashable, Sendable {
    /// What happens when a port cannot be bound.
    public enum Policy: Hashable, Sendable {
        /// The program ends with an error.
        case explicit
        /// The port is skipped and reported (`all`, exclusion only).
        case bestEffort
        /// The port is bound only while the other side listens on it (`auto`).
        case scanned
    }

    /// The direction.
    public var direction: ForwardDirection
    /// The protocol.
    public var transport: TransportProtocol
    /// The address to listen on; nil for both families' wildcard on one socket.
    public var address: IPAddress?
    /// The device to listen on.
    public var interface: String?
    /// The first port listened on.
    public var first: Port
    /// The last port listened on; not below ``first``.
    public var last: Port
    /// The port that ``first`` is forwarded to; the others follow in order.
    public var targetFirst: Port
    /// The address forwarded to; nil for the namespace's own.
    public var targetAddress: IPAddress?
    /// What happens when a port cannot be bound.
    public var policy: Policy

    /// Makes a rule.
    public init(
        direction: ForwardDirection, transport: TransportProtocol, address: IPAddress? = nil,
        interface: String? = nil, first: Port, last: Port, targetFirst: Port, targetAddress: IPAddress? = nil,
        policy: Policy = .explicit
    ) {
        self.direction = direction
        self.transport = transport
        self.address = address
        self.interface = interface
        self.first = first
        self.last = last
        self.targetFirst = targetFirst
        self.targetAddress = targetAddress
        self.policy = policy
    }
}

extension PortForward: CustomStringConvertible {
    /// One line: `TCP 127.0.0.1%lo:80-90 => 192.0.2.1:8080-8090 (best effort)`.
    public var description: String {
        var text = "\(transport) \(address.map(Self.place) ?? "*")"
        if let interface { text += "%\(interface)" }
        text += ":\(Self.ports(first, width: width)) => "
        if let targetAddress { text += "\(Self.place(targetAddress)):" }
        text += Self.ports(targetFirst, width: width)
        switch policy {
        case .explicit: break
        case .bestEffort: text += " (best effort)"
        case .scanned: text += " (auto)"
        }
        return text
    }

    private var width: UInt16 { last.rawValue &- first.rawValue }

    private static func place(_ address: IPAddress) -> String {
        address.family == .v6 ? "[\(address)]" : "\(address)"
    }

    private static func ports(_ first: Port, width: UInt16) -> String {
        width == 0 ? "\(first)" : "\(first)-\(first.rawValue &+ width)"
    }
}
