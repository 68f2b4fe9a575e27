// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(control): geteuid

internal import Control
internal import Glibc
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
            var report = ExplainReport(state: state)
            switch try parameters.integer("family", in: 4...6) {
            case 4?: report.families = [.v4]
            case 6?: report.families = [.v6]
            case nil: break
            default: throw ControlParameters.wrong("family", "4 or 6")
            }
            var host = try HostQuestions()
            // The monitor's question (HostSnapshot.probe): no source is chosen.
            report.traces = report.families.map { host.trace(to: HostSnapshot.probe($0), isSent: false) }
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
            destination: destination, port: UInt16(clamping: port), transport: transport, state: state)
        return report.json(report.asked.flatMap { host.trace(to: $0, transport, report.port, from: report.source) })
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

    /// How a packet of one of this program's sockets leaves, and by which rule; nil if the kernel cannot be asked.
    ///
    /// - Parameters:
    ///   - destination: where it goes on the host.
    ///   - transport: the protocol; nil for ICMP echo.
    ///   - port: the destination port; 0 for none.
    ///   - source: the address that the socket is bound to, if it is.
    ///   - isSent: whether the packet is sent; otherwise this is the question by which a source is chosen.
    /// - Returns: the answer and the rule.
    mutating func trace(
        to destination: IPAddress, _ transport: TransportProtocol? = .udp, _ port: UInt16 = 0,
        from source: IPAddress? = nil, isSent: Bool = true
    ) -> RouteTrace? {
        let number: Int
        switch transport {
        case .tcp?: number = Int(IPPROTO_TCP)
        case .udp?: number = Int(IPPROTO_UDP)
        case nil: number = destination.family == .v4 ? Int(IPPROTO_ICMP) : Int(IPPROTO_ICMPV6)
        }
        let packet = RoutedPacket(
            destination: destination, source: source, transport: UInt8(clamping: number), port: port, user: geteuid())
        do throws(NetlinkError) {
            return try socket.trace(packet, try socket.rules(destination.family), isSent: isSent)
        } catch {
            return nil
        }
    }
}
