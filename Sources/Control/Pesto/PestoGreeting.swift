// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel

/// The first message of the server to a `pesto` client (protocol version 2).
public struct PestoGreeting: Hashable, Sendable {
    /// The protocol version; clients refuse one above their own.
    public static let version: UInt32 = 2
    /// The greatest number of rules of a table in the protocol.
    public static let greatestRuleCount = 256
    /// The bytes of a table's name.
    private static let nameLength = 128

    /// The features that rules may use.
    public struct Capabilities: OptionSet, Hashable, Sendable {
        /// The bits.
        public let rawValue: UInt32

        /// Makes a set from its bits.
        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// Rules for IPv4.
        public static let ipv4 = Capabilities(rawValue: 1 << 0)
        /// Rules for IPv6.
        public static let ipv6 = Capabilities(rawValue: 1 << 1)
        /// Rules for TCP.
        public static let tcp = Capabilities(rawValue: 1 << 2)
        /// Rules for UDP.
        public static let udp = Capabilities(rawValue: 1 << 3)
        /// Rules with `auto`.
        public static let scanning = Capabilities(rawValue: 1 << 4)
        /// Rules with `%interface`.
        public static let interfaces = Capabilities(rawValue: 1 << 5)
    }

    /// The tables to send, in order.
    public var tables: [PestoTable]
    /// The features that rules may use.
    public var capabilities: Capabilities
    /// All rules in force; each is sent with its table.
    public var rules: [PortForward]

    /// Makes a greeting.
    public init(tables: [PestoTable], capabilities: Capabilities, rules: [PortForward]) {
        self.tables = tables
        self.capabilities = capabilities
        self.rules = rules
    }

    /// The bytes to send; rules beyond ``greatestRuleCount`` of a table are left out.
    public var bytes: [UInt8] {
        var bytes = Array("basil:s".utf8) + [0]
        append(Self.version, to: &bytes)
        append(UInt32(Self.nameLength), to: &bytes)
        append(UInt32(PestoRule.interfaceNameLength), to: &bytes)
        for table in tables {
            bytes.append(table.rawValue)
            let name = Array(table.name.utf8)
            bytes += name + [UInt8](repeating: 0, count: Self.nameLength - name.count)
            append(capabilities.rawValue, to: &bytes)
            let rules = self.rules.filter { $0.direction == table.direction }.prefix(Self.greatestRuleCount)
            append(UInt32(rules.count), to: &bytes)
            for rule in rules { PestoRule.append(rule, to: &bytes) }
        }
        bytes.append(0)
        return bytes
    }

    private func append(_ number: UInt32, to bytes: inout [UInt8]) {
        for shift in stride(from: UInt32(24), through: 0, by: -8) {
            bytes.append(UInt8(truncatingIfNeeded: number >> shift))
        }
    }
}
