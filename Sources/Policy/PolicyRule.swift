// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The decision about a new flow.
public enum Verdict: String, Hashable, Sendable, CaseIterable {
    /// It may open.
    case allow
    /// It is refused.
    case deny
}

/// The transports that rules distinguish.
public enum PolicyTransport: String, Hashable, Sendable, CaseIterable {
    /// TCP.
    case tcp
    /// UDP.
    case udp
    /// ICMP and ICMPv6 echo, which have no ports.
    case icmp
}

/// Ports from the first to the last, both included.
public struct PortRange: Hashable, Sendable, CustomStringConvertible {
    /// All ports.
    public static let all = PortRange(unchecked: 0, .max)

    /// The first port.
    public let first: UInt16
    /// The last port.
    public let last: UInt16

    /// Makes a range; nil if it ends before it begins.
    public init?(_ first: UInt16, _ last: UInt16) {
        guard first <= last else { return nil }
        self.init(unchecked: first, last)
    }

    /// Makes the range of a single port.
    public init(_ port: UInt16) {
        self.init(unchecked: port, port)
    }

    private init(unchecked first: UInt16, _ last: UInt16) {
        self.first = first
        self.last = last
    }

    /// `FIRST-LAST`, or the port alone.
    public var description: String { first == last ? "\(first)" : "\(first)-\(last)" }
}

/// One rule: a verdict for the flows that a specification covers.
///
/// A rule that names ports and no transport covers TCP and UDP; one that names neither covers everything.
public struct PolicyRule: Hashable, Sendable {
    /// Where a flow goes.
    public enum Destination: Hashable, Sendable {
        /// An address or all addresses of a prefix; its host bits are zero.
        case prefix(Prefix)
        /// The addresses that a name was answered with.
        case name(DomainName)
        /// The addresses that a name below this one, at any depth, was answered with.
        case namesBelow(DomainName)
        /// A word.
        case word(Word)

        /// Whether only names that the relay has answered lead there.
        public var isName: Bool {
            switch self {
            case .name, .namesBelow: true
            case .prefix, .word: false
            }
        }
    }

    /// Destinations that have a word of their own.
    public enum Word: String, Hashable, Sendable, CaseIterable {
        /// Networks that are not public: RFC 1918, RFC 6598, RFC 4193 and link-local ones.
        case privateNetworks = "private"
        /// The host itself, and the addresses that stand for it or its loopback.
        case host
        /// The addresses at which clouds provide an instance's credentials.
        case metadata
        /// The resolvers: the relay's address and the host's servers; ports 53 and 853 if none is named.
        case resolvers = "dns"
        /// Everything.
        case anywhere = "any"
    }

    /// The ports of DNS (RFC 1035), and of DNS over TLS and QUIC (RFC 7858, RFC 9250).
    public static let resolverPorts = [PortRange(53), PortRange(853)]

    /// The verdict.
    public var verdict: Verdict
    /// The transport; nil for all.
    public var transport: PolicyTransport?
    /// Where the flow goes.
    public var destination: Destination
    /// The ports; empty for all.
    public var ports: [PortRange]

    /// Makes a rule.
    ///
    /// - Parameters:
    ///   - verdict: the verdict.
    ///   - transport: the transport; nil for all.
    ///   - destination: where the flow goes.
    ///   - ports: the ports; empty for all.
    public init(
        _ verdict: Verdict, transport: PolicyTransport? = nil, to destination: Destination, ports: [PortRange] = []
    ) {
        self.verdict = verdict
        self.transport = transport
        self.destination = destination
        self.ports = ports
    }

    /// The ports that the rule covers of a transport; nil if it does not cover the transport.
    ///
    /// ICMP counts as all ports.
    func coveredPorts(of wanted: PolicyTransport) -> [PortRange]? {
        if let transport, transport != wanted { return nil }
        let isResolverRule = destination == .word(.resolvers)
        if wanted == .icmp {
            return ports.isEmpty && (transport == .icmp || !isResolverRule) ? [.all] : nil
        }
        if !ports.isEmpty { return ports }
        return isResolverRule ? Self.resolverPorts : [.all]
    }

    /// Whether the rule covers everything that goes to its destination.
    var isComplete: Bool { transport == nil && ports.isEmpty }
}

extension PolicyRule: CustomStringConvertible {
    /// The specification, without the verdict, as PolicyRule/init(_:specification:place:) reads it.
    public var specification: String {
        var text = transport.map { "\($0.rawValue):" } ?? ""
        switch destination {
        case .prefix(let prefix):
            let isHost = prefix.length == prefix.family.addressBitCount
            let shown = isHost ? prefix.address.description : prefix.description
            text += prefix.family == .v6 ? "[\(shown)]" : shown
        // A dot distinguishes a name of one label from a word.
        case .name(let name): text += name.hasParent ? name.text : name.text + "."
        case .namesBelow(let name): text += "*.\(name)"
        case .word(let word): text += word.rawValue
        }
        if !ports.isEmpty { text += ":" + ports.map(\.description).joined(separator: ",") }
        return text
    }

    /// `allow SPEC` or `deny SPEC`, as a line of a file.
    public var description: String { "\(verdict.rawValue) \(specification)" }
}
