// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import JSON
internal import LinuxSystem
internal import Netlink
internal import NetworkModel
internal import NetworkTypes

extension ControlCommands {
    /// Adds `explain`.
    func addExplain(_ context: ControlContext) {
        let parameters: Set<String> = ["family", "destination", "port", "protocol"]
        add("explain", parameters: parameters) { parameters, _ throws(ControlError) in
            let state = await context.chronicle.state
            if let text = try parameters.string("destination") {
                guard let destination = IPAddress(text) else {
                    throw ControlParameters.wrong("destination", "an IP address")
                }
                return try Self.destination(destination, parameters, context, state)
            }
            var report = ExplainReport(state: state, rules: [])
            switch try parameters.integer("family", in: 4...6) {
            case 4?: report.families = [.v4]
            case 6?: report.families = [.v6]
            case nil: break
            default: throw ControlParameters.wrong("family", "4 or 6")
            }
            var host = try HostQuestions()
            report.rules = host.rules(report.families)
            return report.json
        }
    }

    private static func destination(
        _ destination: IPAddress, _ parameters: ControlParameters, _ context: ControlContext,
        _ state: Chronicle.State
    ) throws(ControlError) -> JSONValue {
        let transport: TransportProtocol?
        switch try parameters.string("protocol") {
        case "tcp"?, nil: transport = .tcp
        case "udp"?: transport = .udp
        case "icmp"?: transport = nil
        default: throw ControlParameters.wrong("protocol", "tcp, udp or icmp")
        }
        let port = try parameters.integer("port", in: 1...65535) ?? 0
        var host = try HostQuestions()
        let report = DestinationReport(
            destination: destination, port: UInt16(clamping: port), transport: transport, state: state,
            rules: host.rules([destination.family]))
        return report.json(report.asked.flatMap { host.lookup($0) })
    }
}

/// A socket for the queries to the host's kernel that only an explanation needs.
private struct HostQuestions: ~Copyable {
    private var socket: NetlinkSocket

    init() throws(ControlError) {
        do throws(SystemCallError) {
            socket = try NetlinkSocket()
        } catch {
            throw ControlError(.refused, "the host's kernel cannot be asked: \(error)")
        }
    }

    /// The policy rules; none if the kernel does not support them.
    mutating func rules(_ families: [AddressFamily]) -> [RoutingRule] {
        var rules: [RoutingRule] = []
        for family in families { rules += (try? socket.rules(family)) ?? [] }
        return rules
    }

    /// The route of a packet.
    mutating func lookup(_ destination: IPAddress) -> RouteLookup? {
        try? socket.lookup(destination)
    }
}
