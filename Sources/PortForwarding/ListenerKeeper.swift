// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes
public import SystemPackage

/// Keeps listening sockets beyond the end of this process, for its successor (`--persist`).
public protocol ListenerKeeper: AnyObject, Sendable {
    /// The names of the predecessor's sockets that nobody has taken yet.
    var listenerNames: [String] { get }
    /// The predecessor's socket of a name, which the caller owns from now on; nil if there is none.
    func takeListener(_ name: String) -> FileDescriptor?
    /// Keeps a socket, which the caller goes on owning.
    func keepListener(_ name: String, _ socket: FileDescriptor)
    /// Does not keep the socket of a name any more.
    func releaseListener(_ name: String)
    /// Closes the predecessor's sockets that nobody has taken.
    func releaseOtherListeners()
    /// The rules in force have been changed.
    func rulesDidChange(_ forwards: [PortForward])
}

/// What a listening socket is known by: the side that listens, the protocol, the port, the place.
struct ListenerName: Hashable {
    var direction: ForwardDirection
    var transport: TransportProtocol
    var port: UInt16
    var place: ListeningPlace

    init(_ rule: PortForward, _ place: ListeningPlace, port: UInt16) {
        direction = rule.direction
        transport = rule.transport
        self.port = port
        self.place = place
    }

    /// `listen/in/TCP/8080/192.0.2.1/eth0`, with `*` for what is missing.
    var text: String {
        let address = place.address.map { "\($0)" } ?? "*"
        return "listen/\(direction == .inbound ? "in" : "out")/\(transport)/\(port)/\(address)/\(place.device ?? "*")"
    }

    /// Reads a name; nil if it is none.
    init?(_ text: String) {
        let parts = text.split(separator: "/", omittingEmptySubsequences: false).map { String($0) }
        guard parts.count == 6, parts[0] == "listen", let port = UInt16(parts[3]),
            let transport = TransportProtocol(rawValue: parts[2])
        else { return nil }
        switch parts[1] {
        case "in": direction = .inbound
        case "out": direction = .outbound
        default: return nil
        }
        self.transport = transport
        self.port = port
        var address: IPv6Address?
        if parts[4] != "*" {
            guard let parsed = IPv6Address(parts[4]) else { return nil }
            address = parsed
        }
        place = ListeningPlace(address: address, device: parts[5] == "*" ? nil : parts[5])
    }
}
