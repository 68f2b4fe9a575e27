// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

/// The rules of both directions, none of which conflict.
public struct ForwardRuleSet: Hashable, Sendable {
    /// The greatest number of rules of a direction.
    public static let ruleLimit = 255
    /// The greatest number of listening sockets of a direction.
    public static let socketLimit = 327_680

    /// The rules in the order they were added.
    public private(set) var forwards: [PortForward] = []

    /// Makes an empty table.
    public init() {}

    /// Adds rules, all or none of them.
    ///
    /// - Throws: Which rules conflict, or which limit would be exceeded; the table is as before then.
    public mutating func add(_ rules: [PortForward]) throws(ForwardRuleSetError) {
        var changed = forwards
        for rule in rules {
            if let existing = changed.first(where: { $0.conflicts(with: rule) }) {
                throw .conflict(rule, existing: existing)
            }
            let sameDirection = changed.lazy.filter { $0.direction == rule.direction }
            guard sameDirection.count < Self.ruleLimit else { throw .tooManyRules(rule.direction) }
            let sockets = sameDirection.reduce(rule.portCount) { $0 + $1.portCount }
            guard sockets <= Self.socketLimit else { throw .tooManySockets(rule.direction, needed: sockets) }
            changed.append(rule)
        }
        forwards = changed
    }
}

/// Why rules cannot be added to a ``ForwardRuleSet``.
public enum ForwardRuleSetError: Error, Hashable, Sendable {
    /// A rule would listen where another one listens.
    case conflict(PortForward, existing: PortForward)
    /// The direction would have more than ``ForwardRuleSet/ruleLimit`` rules.
    case tooManyRules(ForwardDirection)
    /// The direction would need more than ``ForwardRuleSet/socketLimit`` sockets.
    case tooManySockets(ForwardDirection, needed: Int)
}

extension ForwardRuleSetError: CustomStringConvertible {
    /// One line: what is wrong, and a remedy.
    public var description: String {
        switch self {
        case .conflict(let rule, let existing):
            """
            \(rule.listeningDescription) conflicts with \(existing.listeningDescription), which is forwarded already; \
            leave one out, or exclude its ports from the other with '~'
            """
        case .tooManyRules(let direction):
            "more than \(ForwardRuleSet.ruleLimit) \(direction.words) rules; use ranges"
        case .tooManySockets(let direction, let needed):
            "\(needed) \(direction.words) sockets needed, more than \(ForwardRuleSet.socketLimit); forward fewer ports"
        }
    }
}

extension PortForward {
    /// The number of ports, and so of sockets.
    var portCount: Int { Int(last.rawValue) - Int(first.rawValue) + 1 }

    /// Whether both rules would listen on one port of one address and device.
    ///
    /// An unspecified address or device includes all others, as in the kernel's bind(2).
    func conflicts(with other: PortForward) -> Bool {
        guard direction == other.direction, transport == other.transport, first <= other.last, other.first <= last
        else { return false }
        if let interface, let otherInterface = other.interface, interface != otherInterface { return false }
        guard let address, let otherAddress = other.address else { return true }
        guard address.family == otherAddress.family else { return false }
        return address == otherAddress || address.isUnspecified || otherAddress.isUnspecified
    }

    /// The listening part: `TCP 127.0.0.1%lo:80-90`.
    var listeningDescription: String {
        // The target begins with "=>".
        let end = description.firstIndex(of: "=").map { description[..<$0] } ?? description[...]
        return String(end.last == " " ? end.dropLast() : end)
    }
}

extension ForwardDirection {
    /// "inbound" or "outbound".
    var words: String { self == .inbound ? "inbound" : "outbound" }
}
