// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import PortForwarding

/// Upstream's protocol for forwarding rules, served at the path of `--conf-path`.
enum PestoService {
    /// Serves clients from now on, on the control loop.
    ///
    /// - Parameters:
    ///   - socket: the listening socket.
    ///   - loop: the control loop.
    ///   - invocation: the command line.
    ///   - commands: checks the rules of clients.
    ///   - ports: the forwarded ports.
    ///   - logger: where changes and failures are logged.
    /// - Returns: the server, which the caller must retain, because the loop does not.
    static func start(
        _ socket: consuming ControlSocket, on loop: EventLoop, _ invocation: Invocation, _ commands: ForwardCommands,
        _ ports: PortsControl, logger: Logger
    ) -> PestoServer {
        var capabilities: PestoGreeting.Capabilities = .interfaces
        if commands.hasNamespace { capabilities.insert(.scanning) }
        if invocation.configuration.families.contains(.v4) { capabilities.insert(.ipv4) }
        if invocation.configuration.families.contains(.v6) { capabilities.insert(.ipv6) }
        if commands.transports.contains(.tcp) { capabilities.insert(.tcp) }
        if commands.transports.contains(.udp) { capabilities.insert(.udp) }
        let tables = commands.hasNamespace ? PestoTable.allCases : [.host]
        let server = PestoServer(
            loop: loop, socket: socket, tables: tables, capabilities: capabilities, logger: logger,
            current: { await ports.forwards },
            replace: { rules throws(ControlError) in
                let wanted = try commands.checkedForeign(rules)
                do throws(PortForwardingError) {
                    try await ports.change { (_) throws(PortForwardingError) in try ForwardCommands.checked(wanted) }
                } catch {
                    throw ControlError(.refused, "\(error)")
                }
            })
        loop.perform {
            server.assumeIsolated { server in
                do throws(SystemCallError) {
                    try server.start()
                } catch {
                    logger.error("--conf-path is not served: \(error)")
                }
            }
        }
        return server
    }
}
