// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import Forwarding
internal import JSON
internal import LinuxSystem
internal import NativeSockets
internal import NetworkModel
internal import NetworkTypes
internal import PortForwarding

/// Parses the requests of control clients about flows and makes the answers; it carries nothing out.
struct FlowCommands: Sendable {
    /// Selects the flows.
    var filter = FlowFilter()
    /// Whether spliced flows can be selected, which is not so if the filter names addresses that they lack.
    var admitsSpliced: Bool
    /// The sort order; nil for no order.
    var order: Order?
    /// The greatest number of flows; nil for all.
    var limit: Int?
    /// Whether the request explicitly selects all flows.
    var meansAll = false

    /// The keys by which flows are sorted, the greatest first.
    enum Order: String, CaseIterable, Sendable {
        case bytes, packets, age, idle
    }

    private static let filterNames: Set<String> = [
        "protocol", "guest", "remote", "host", "guest_port", "remote_port", "host_port", "interface", "state",
    ]

    /// Reads the parameters of `flows`.
    init(listing parameters: JSONObject) throws(ControlError) {
        try self.init(parameters, besides: ["sort", "limit"])
        if let value = parameters["sort"] {
            guard let name = value.string, let order = Order(rawValue: name) else {
                throw Self.wrong("sort", "one of \(Order.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            self.order = order
        }
        if let value = parameters["limit"] {
            guard let number = value.integer, number >= 0 else { throw Self.wrong("limit", "a number from 0 on") }
            limit = Int(clamping: number)
        }
    }

    /// Reads the parameters of `flows.kill`.
    init(killing parameters: JSONObject) throws(ControlError) {
        try self.init(parameters, besides: ["all"])
        if let value = parameters["all"] {
            guard let all = value.bool else { throw Self.wrong("all", "true or false") }
            meansAll = all
        }
        guard meansAll != parameters.names.contains(where: { Self.filterNames.contains($0) }) else {
            throw ControlError(
                .invalidParameters, "say which flows are meant (protocol, guest, remote, ...), or \"all\": true for all"
            )
        }
    }

    private init(_ parameters: JSONObject, besides: Set<String>) throws(ControlError) {
        for name in parameters.names where !Self.filterNames.contains(name) && !besides.contains(name) {
            throw ControlError(.invalidParameters, "there is no parameter '\(name.prefix(64))'")
        }
        if let value = parameters["protocol"] {
            guard let name = value.string, let transport = FlowProtocol(rawValue: name) else {
                throw Self.wrong("protocol", "one of tcp, udp, icmp")
            }
            filter.transports = [transport]
        }
        if let value = parameters["state"] {
            guard let name = value.string, let state = FlowState(rawValue: name) else {
                throw Self.wrong("state", "one of \(FlowState.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            filter.states = [state]
        }
        filter.guestAddress = try Self.address(parameters, "guest")
        filter.remoteAddress = try Self.address(parameters, "remote")
        filter.hostAddress = try Self.address(parameters, "host")
        filter.guestPort = try Self.port(parameters, "guest_port")
        filter.remotePort = try Self.port(parameters, "remote_port")
        filter.hostPort = try Self.port(parameters, "host_port")
        if let value = parameters["interface"] {
            guard let name = value.string else { throw Self.wrong("interface", "an interface's name") }
            filter.hostInterface = name
        }
        admitsSpliced = filter.hostInterface == nil
    }

    private static func address(_ parameters: JSONObject, _ name: String) throws(ControlError) -> IPAddress? {
        guard let value = parameters[name] else { return nil }
        guard let text = value.string, let address = IPAddress(text) else { throw wrong(name, "an address") }
        return address
    }

    private static func port(_ parameters: JSONObject, _ name: String) throws(ControlError) -> UInt16? {
        guard let value = parameters[name] else { return nil }
        guard let number = value.integer, let port = UInt16(exactly: number) else { throw wrong(name, "0 to 65535") }
        return port
    }

    private static func wrong(_ name: String, _ what: String) -> ControlError {
        ControlError(.invalidParameters, "'\(name)' must be \(what)")
    }

    // MARK: Flows that never touch the tap

    /// Whether a spliced flow is selected, by the properties that ``json(_:)`` shows.
    func admits(_ flow: SplicedFlow) -> Bool {
        guard admitsSpliced else { return false }
        if !filter.transports.isEmpty, !filter.transports.contains(flow.transport == .tcp ? .tcp : .udp) {
            return false
        }
        if !filter.states.isEmpty, !filter.states.contains(where: { $0.rawValue == flow.state.rawValue }) {
            return false
        }
        return Self.matches(filter.guestAddress, filter.guestPort, Self.guest(flow))
            && Self.matches(filter.remoteAddress, filter.remotePort, Self.remote(flow))
            && Self.matches(filter.hostAddress, filter.hostPort, Self.host(flow))
    }

    /// The end in the namespace.
    private static func guest(_ flow: SplicedFlow) -> Endpoint? {
        flow.direction == .inbound ? flow.target : flow.client
    }

    /// The other end.
    private static func remote(_ flow: SplicedFlow) -> Endpoint? {
        flow.direction == .inbound ? flow.client : flow.target
    }

    /// The host's side of the flow.
    private static func host(_ flow: SplicedFlow) -> Endpoint? {
        flow.direction == .inbound ? flow.local : flow.target
    }

    private static func matches(_ address: IPAddress?, _ port: UInt16?, _ endpoint: Endpoint?) -> Bool {
        if let address, endpoint?.address != address.asIPv6 { return false }
        if let port, endpoint?.port != port { return false }
        return true
    }

    /// Whether a connection by a socket of the host is selected.
    func admits(_ flow: NativeFlow) -> Bool {
        guard filter.hostInterface == nil, filter.transports.isEmpty || filter.transports.contains(.tcp) else {
            return false
        }
        let state: FlowState = flow.isConnecting ? .connecting : .established
        return (filter.states.isEmpty || filter.states.contains(state))
            && Self.matches(filter.guestAddress, filter.guestPort, flow.guest)
            && Self.matches(filter.remoteAddress, filter.remotePort, flow.remote)
            && Self.matches(filter.hostAddress, filter.hostPort, flow.host)
    }

    // MARK: Answers

    /// A flow of either kind.
    enum Found: Sendable {
        /// A flow of the tap.
        case tap(FlowRecord)
        /// A spliced flow (from loopback to loopback).
        case spliced(SplicedFlow)
        /// A connection by a socket of the host.
        case native(NativeFlow)

        /// The value by which the flow is sorted, the greatest first.
        func rank(_ order: Order) -> UInt64 {
            switch (self, order) {
            case (.tap(let flow), .bytes): flow.bytesFromGuest &+ flow.bytesToGuest
            case (.tap(let flow), .packets): flow.framesFromGuest &+ flow.framesToGuest
            case (.tap(let flow), .age): UInt64(clamping: flow.age)
            case (.tap(let flow), .idle): UInt64(clamping: flow.idle)
            case (.spliced(let flow), .bytes): flow.bytesFromClient &+ flow.bytesToClient
            case (.spliced, .packets): 0
            case (.spliced(let flow), .age): UInt64(clamping: flow.age)
            case (.spliced(let flow), .idle): UInt64(clamping: flow.idle)
            case (.native(let flow), .bytes): flow.sent &+ flow.received
            case (.native(let flow), .age): UInt64(clamping: flow.age)
            case (.native, .packets), (.native, .idle): 0
            }
        }

        /// The flow in the form of the protocol.
        var json: JSONValue {
            switch self {
            case .tap(let flow): FlowCommands.json(flow)
            case .spliced(let flow): FlowCommands.json(flow)
            case .native(let flow): FlowCommands.json(flow)
            }
        }
    }

    /// Flows in the requested order and number.
    func sorted(_ flows: [Found]) -> [Found] {
        let sorted = order.map { order in flows.sorted { $0.rank(order) > $1.rank(order) } } ?? flows
        return limit.map { Array(sorted.prefix($0)) } ?? sorted
    }

    /// A flow of the tap.
    static func json(_ flow: FlowRecord) -> JSONValue {
        var host: JSONValue = .null
        if flow.hostAddress != nil || flow.hostPort != nil {
            host = [
                "address": JSONValue(flow.hostAddress.map { "\($0)" }),
                "port": flow.hostPort.map { JSONValue($0) } ?? .null,
                "interface": JSONValue(flow.hostInterface),
            ]
        }
        return [
            "protocol": .string(flow.transport.rawValue),
            "direction": .string(flow.isInbound ? "inbound" : "outbound"), "path": "tap",
            "state": .string(flow.state.rawValue), "resolvers": .bool(flow.isForResolvers),
            "guest": json(flow.guest), "remote": json(flow.remote), "host": host, "age": seconds(flow.age),
            "idle": seconds(flow.idle),
            "bytes": ["sent": JSONValue(flow.bytesFromGuest), "received": JSONValue(flow.bytesToGuest)],
            "packets": ["sent": JSONValue(flow.framesFromGuest), "received": JSONValue(flow.framesToGuest)],
            "rtt": flow.roundTrip.map { .number(Double($0) / 1e6) } ?? .null,
        ]
    }

    /// A spliced flow.
    static func json(_ flow: SplicedFlow) -> JSONValue {
        let isInbound = flow.direction == .inbound
        let (sent, received) =
            isInbound ? (flow.bytesToClient, flow.bytesFromClient) : (flow.bytesFromClient, flow.bytesToClient)
        return [
            "protocol": .string(flow.transport == .tcp ? "tcp" : "udp"),
            "direction": .string(isInbound ? "inbound" : "outbound"), "path": "splice",
            "state": .string(flow.state.rawValue), "resolvers": false,
            "guest": json(guest(flow)), "remote": json(remote(flow)),
            "host": host(flow).map {
                [
                    "address": .string("\(IPAddress(unmapping: $0.address))"), "port": JSONValue($0.port),
                    "interface": nil,
                ]
            } ?? .null,
            "age": seconds(flow.age), "idle": seconds(flow.idle),
            "bytes": ["sent": JSONValue(sent), "received": JSONValue(received)], "packets": nil, "rtt": nil,
        ]
    }

    /// A connection by a socket of the host; nobody knows when it was used last.
    static func json(_ flow: NativeFlow) -> JSONValue {
        [
            "protocol": "tcp", "direction": "outbound", "path": "native", "native": true,
            "state": .string((flow.isConnecting ? FlowState.connecting : .established).rawValue), "resolvers": false,
            "guest": json(flow.guest), "remote": json(flow.remote),
            "host": [
                "address": .string("\(IPAddress(unmapping: flow.host.address))"), "port": JSONValue(flow.host.port),
                "interface": nil,
            ],
            "age": seconds(flow.age), "idle": 0,
            "bytes": ["sent": JSONValue(flow.sent), "received": JSONValue(flow.received)], "packets": nil, "rtt": nil,
        ]
    }

    private static func json(_ endpoint: Endpoint?) -> JSONValue {
        guard let endpoint else { return .null }
        return ["address": .string("\(IPAddress(unmapping: endpoint.address))"), "port": JSONValue(endpoint.port)]
    }

    /// Nanoseconds as seconds, to the millisecond.
    static func seconds(_ nanoseconds: Int64) -> JSONValue {
        .number(Double(nanoseconds / 1_000_000) / 1000)
    }
}
