// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// A rule with the sockets that listen for it.
struct ListeningRule {
    let rule: PortForward
    /// The places where each port is opened: one, or two if one socket is not enough.
    let places: [ListeningPlace]
    /// The listeners, by place and port.
    private(set) var open: [UInt32: Int] = [:]
    /// The index of the rule's device when its sockets were bound to it.
    var deviceIndex: UInt32 = 0
    /// The rule's device does not exist at present; the rule waits for it.
    var waitsForDevice = false
    /// Ports of an `auto` rule that could not be opened and have been reported.
    var skipped: Set<UInt16> = []
    /// Ports that another process had, in the order in which they are tried again.
    var pending: [UInt16] = []
    /// Whether skipped ports are tried again in this scan.
    var triesAgain = false

    init(rule: PortForward, places: [ListeningPlace]) {
        self.rule = rule
        self.places = places
    }

    var ports: ClosedRange<UInt16> { rule.first.rawValue...rule.last.rawValue }

    /// Whether it is an `auto` rule of a direction.
    func isScanned(_ direction: ForwardDirection) -> Bool {
        rule.policy == .scanned && rule.direction == direction
    }

    /// The ports on the other side, in the same order.
    var targets: ClosedRange<UInt16> { target(of: ports.lowerBound)...target(of: ports.upperBound) }

    /// The port that a port is forwarded to.
    func target(of port: UInt16) -> UInt16 {
        rule.targetFirst.rawValue &+ (port &- rule.first.rawValue)
    }

    /// The port that is forwarded to one of ``targets``.
    func port(for target: UInt16) -> UInt16 {
        rule.first.rawValue &+ (target &- rule.targetFirst.rawValue)
    }

    private static func key(_ place: Int, _ port: UInt16) -> UInt32 { UInt32(place) << 16 | UInt32(port) }

    /// The listener of a port at a place.
    func listener(_ place: Int, _ port: UInt16) -> Int? { open[Self.key(place, port)] }

    /// Whether a port is listened on at every place.
    func isOpen(_ port: UInt16) -> Bool {
        places.indices.allSatisfy { open[Self.key($0, port)] != nil }
    }

    mutating func add(_ listener: Int, _ place: Int, _ port: UInt16) {
        open[Self.key(place, port)] = listener
    }

    /// Removes a port's listener; nil if it has none.
    mutating func remove(_ place: Int, _ port: UInt16) -> Int? {
        open.removeValue(forKey: Self.key(place, port))
    }

    /// The ports that are listened on at some place, in order.
    var openPorts: [UInt16] {
        Set(open.keys.map { UInt16(truncatingIfNeeded: $0) }).sorted()
    }

    /// Whether the other rule's sockets can serve this rule.
    func shares(with other: ListeningRule) -> Bool {
        rule.direction == other.rule.direction && rule.transport == other.rule.transport
            && rule.first <= other.rule.last && other.rule.first <= rule.last
    }

    /// A port of the rule, as messages name it.
    func name(_ place: Int, _ port: UInt16) -> PortForwardingError.Port {
        .init(
            direction: rule.direction, transport: rule.transport,
            place: rule.direction == .inbound ? places[place].text(port: port) : "\(port)", number: port)
    }
}

/// Ports that could not be opened, collected for one message.
struct SkippedPorts {
    private struct Reason: Hashable {
        var direction: ForwardDirection
        var transport: TransportProtocol
        var errno: Errno
    }

    private var ports: [Reason: PortSet] = [:]

    var isEmpty: Bool { ports.isEmpty }

    mutating func add(_ rule: PortForward, _ port: UInt16, _ errno: Errno) {
        let reason = Reason(direction: rule.direction, transport: rule.transport, errno: errno)
        ports[reason, default: PortSet()].insert(port)
    }

    /// `not forwarded: TCP 22, 80-90 (Address already in use); UDP 53 in the namespace (…)`.
    var summary: String {
        let parts = ports.map { reason, ports in
            var text = "\(reason.transport) \(PortSet.text(ports.ports))"
            if reason.direction == .outbound { text += " in the namespace" }
            text += " (\(reason.errno.description)"
            if reason.errno == .permissionDenied { text += ": net.ipv4.ip_unprivileged_port_start" }
            return text + ")"
        }
        return "not forwarded: " + parts.sorted().joined(separator: "; ")
    }
}
