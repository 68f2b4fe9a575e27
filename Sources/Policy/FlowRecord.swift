// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
public import NetworkTypes

/// A line of the flow log (`--flow-log`).
public struct FlowRecord: Hashable, Sendable {
    /// The event.
    public enum Event: String, Hashable, Sendable {
        /// A flow was allowed, and opened.
        case open
        /// A flow was denied.
        case deny
        /// A flow ended.
        case close
        /// The relay has refused a query or withheld its answer.
        case refuse
    }

    /// An address with a port; the port is 0 for ICMP.
    public struct End: Hashable, Sendable {
        /// The address as the namespace sees it.
        public var address: IPAddress
        /// The port.
        public var port: UInt16

        /// Makes an end.
        public init(_ address: IPAddress, _ port: UInt16) {
            self.address = address
            self.port = port
        }
    }

    /// The traffic of a flow.
    public struct Traffic: Hashable, Sendable {
        /// Bytes of payload from the namespace.
        public var bytesOut: UInt64 = 0
        /// Bytes of payload to the namespace.
        public var bytesIn: UInt64 = 0
        /// Packets from the namespace.
        public var packetsOut: UInt64 = 0
        /// Packets to the namespace.
        public var packetsIn: UInt64 = 0
        /// How long it was open, in nanoseconds.
        public var duration: UInt64 = 0

        /// Nothing.
        public init() {}
    }

    /// What happened.
    public var event: Event
    /// The time in nanoseconds since 1970, without leap seconds.
    public var time: UInt64
    /// The verdict.
    public var verdict: Verdict
    /// The rule in words; nil for the default verdict.
    public var rule: String?
    /// The transport.
    public var transport: PolicyTransport
    /// The namespace's end.
    public var guest: End
    /// The other end.
    public var remote: End
    /// The name that led there, or was queried; bytes that are not printable are escaped as in `DNSName`.
    public var name: String?
    /// The host's interface.
    public var interface: String?
    /// The flow's traffic, at its end.
    public var traffic: Traffic?
    /// Why it ended or was refused.
    public var reason: String?

    /// Makes a record.
    ///
    /// - Parameters:
    ///   - event: the event.
    ///   - time: the time in nanoseconds since 1970.
    ///   - verdict: the verdict.
    ///   - rule: the rule; nil for the default verdict.
    ///   - transport: the transport.
    ///   - guest: the namespace's end.
    ///   - remote: the other end.
    public init(
        _ event: Event, time: UInt64, verdict: Verdict, rule: PolicyRule?, transport: PolicyTransport, guest: End,
        remote: End
    ) {
        self.event = event
        self.time = time
        self.verdict = verdict
        self.rule = rule?.description
        self.transport = transport
        self.guest = guest
        self.remote = remote
    }

    /// The record as a line of JSON, with its end.
    ///
    /// Members that have no value are left out.
    public var jsonLine: String { json.compactText + "\n" }

    /// The record as a value of JSON.
    public var json: JSONValue {
        var object = JSONObject()
        object["time"] = .string(Self.text(ofTime: time))
        object["event"] = .string(event.rawValue)
        object["verdict"] = .string(verdict.rawValue)
        object["rule"] = JSONValue(rule ?? "default")
        object["protocol"] = .string(transport.rawValue)
        object["guest_address"] = .string(guest.address.description)
        if transport != .icmp { object["guest_port"] = JSONValue(guest.port) }
        object["remote_address"] = .string(remote.address.description)
        if transport != .icmp { object["remote_port"] = JSONValue(remote.port) }
        object["name"] = name.map { .string($0) }
        object["interface"] = interface.map { .string($0) }
        if let traffic {
            object["bytes_out"] = JSONValue(traffic.bytesOut)
            object["bytes_in"] = JSONValue(traffic.bytesIn)
            object["packets_out"] = JSONValue(traffic.packetsOut)
            object["packets_in"] = JSONValue(traffic.packetsIn)
            object["duration_us"] = JSONValue(traffic.duration / 1000)
        }
        object["reason"] = reason.map { .string($0) }
        return .object(object)
    }

    /// The reason of a denied connection to the relay, whose queries could not be read.
    public static let streamOfQueries = "query-stream"

    /// The line of a file of rules that allows this, `allow SPEC`; nil for the end of a flow.
    ///
    /// An address that rules by name do not open, as a private one, is named itself. A query names no port, so its
    /// rule covers all.
    public var learnedRule: String? {
        // A rule for its address would not let a stream of queries through.
        if event == .close || reason == Self.streamOfQueries { return nil }
        let known = name.flatMap { DomainName($0) }
        if event == .refuse {
            guard let known, reason == "name" else { return nil }
            return PolicyRule(.allow, to: .name(known)).description
        }
        let isProtected = PolicySurroundings().isProtected(remote.address)
        let destination = known.flatMap { isProtected ? nil : PolicyRule.Destination.name($0) }
        let ports = transport == .icmp ? [] : [PortRange(remote.port)]
        return PolicyRule(
            .allow, transport: transport, to: destination ?? .prefix(Prefix(host: remote.address)), ports: ports
        ).description
    }

    /// A time in the form of RFC 3339, in UTC with microseconds.
    static func text(ofTime time: UInt64) -> String {
        let seconds = time / 1_000_000_000
        // Days to a date of the Gregorian calendar: years begin in March, so that the leap day is a year's last.
        let days = seconds / 86400 + 719_468
        let era = days / 146_097
        let dayOfEra = days % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shifted + 2) / 5 + 1
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let clock = seconds % 86400
        let date = "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))"
        let hours = "\(padded(clock / 3600, 2)):\(padded(clock / 60 % 60, 2)):\(padded(clock % 60, 2))"
        return "\(date)T\(hours).\(padded(time / 1000 % 1_000_000, 6))Z"
    }

    private static func padded(_ number: UInt64, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
