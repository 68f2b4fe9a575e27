// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import NetworkModel
internal import Options
internal import PortForwarding
internal import Sandbox

/// The forwarded ports of the command line, and the loop of their own that serves them.
struct Ports {
    private let ports: LoopBound<ForwardedPorts>

    /// Listens on them; failures end the program.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - thread: makes the sockets that belong to the namespace.
    ///   - tap: the data path; nil with `--splice-only`.
    ///   - holders: who had ports of the host at start.
    ///   - logger: where to tell what could not be had and need not.
    ///   - isControlled: whether rules may come later.
    /// - Returns: The forwarded ports, which nobody serves yet; nil if there are to be none.
    /// - Throws: The first port that cannot be had.
    static func open(
        _ invocation: Invocation, _ thread: NamespaceThread, _ tap: TapFlowBridge?, _ holders: PortHolders,
        _ logger: Logger, isControlled: Bool
    ) throws -> Ports? {
        let rules = invocation.forwards + invocation.defaultForwards(ephemeralRange: Engine.ephemeralRange())
        guard !rules.isEmpty || isControlled else { return nil }
        var options = PortForwardingOptions(logger: logger)
        options.splicesInbound = invocation.splicesInbound
        options.hostLoopbackToNamespaceLoopback = invocation.hostLoopbackToNamespaceLoopback
        options.holders = holders
        // They must not take the descriptors of the connections that are there.
        options.socketsAhead = min(options.socketsAhead, Int(clamping: ProcessLimits.openFiles / 64))
        let sockets = NamespaceSockets(
            open: { requests in thread.run { NamespaceRequest.answers(to: requests) } },
            openLater: { requests, completion in
                thread.perform { completion(NamespaceRequest.answers(to: requests)) }
            })
        let loop = try EventLoop()
        let ports = ForwardedPorts(options: options, loop: loop, namespace: sockets, tapFlows: tap)
        try ports.setForwards(rules)
        for rule in ports.forwards {
            let text = "\(rule.direction == .inbound ? "to" : "from") the namespace: \(rule)"
            // Those of the options were asked for; the defaults are the same each time.
            if invocation.forwards.contains(rule) { logger.info("\(text)") } else { logger.debug("\(text)") }
        }
        return Ports(ports: LoopBound(ports, on: loop))
    }

    /// Serves them, on a thread of their own.
    ///
    /// - Parameter tap: the data path, which gives strayed datagrams back; nil with `--splice-only`.
    /// - Returns: The forwarded ports as other threads reach them.
    /// - Throws: If the thread cannot be started.
    func serve(_ tap: TapFlowBridge?) throws -> LoopBound<ForwardedPorts> {
        _ = try EventLoopThread.start(ports.loop, name: "tapas-ports", serving: ports)
        tap?.giveBack(to: ports)
        return ports
    }
}
