// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Forwarding
import LinuxSystem
import Logging
import NamespaceControl
import NetworkModel
import Options
import Sandbox

/// The forwarded ports of the command line.
enum Ports {
    /// Listens on them; failures end the program.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - thread: makes the sockets that belong to the namespace.
    ///   - loop: the data path's loop.
    ///   - forwarder: the data path; nil with `--splice-only`.
    ///   - holders: who had ports of the host at start.
    ///   - logger: where to tell what could not be had and need not.
    /// - Returns: the forwarded ports, attached to the data path, or the loop's sink where there is none.
    /// - Throws: The first port that cannot be had.
    static func open(
        _ invocation: Invocation, _ thread: NamespaceThread, _ loop: EventLoop, _ forwarder: Forwarder?,
        _ holders: PortHolders, _ logger: Logger
    ) throws -> PortForwarder {
        var options = PortForwardingOptions()
        options.splicesInbound = invocation.splicesInbound
        options.hostLoopbackToNamespaceLoopback = invocation.hostLoopbackToNamespaceLoopback
        options.holders = holders
        options.logger = logger
        let ports = PortForwarder(options: options, loop: loop) { requests in
            thread.run { requests.map { $0.open() } }
        }
        forwarder?.attach(ports)
        ProcessLimits.raiseOpenFiles()
        let defaults = invocation.defaultForwards(ephemeralRange: Program.ephemeralRange())
        try ports.setForwards(invocation.forwards + defaults)
        for rule in ports.forwards {
            let text = "\(rule.direction == .inbound ? "to" : "from") the namespace: \(rule)"
            // Those of the options were asked for; the defaults are the same each time.
            if invocation.forwards.contains(rule) { logger.info("\(text)") } else { logger.debug("\(text)") }
        }
        return ports
    }
}
