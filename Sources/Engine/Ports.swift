// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import NetworkModel
internal import Options
internal import PortForwarding
internal import Sandbox

/// The forwarded ports of the command line, and the event loop that serves them.
struct Ports {
    private let ports: LoopBound<ForwardedPorts>

    /// Listens on the ports; a failure ends the program.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - thread: makes the sockets that belong to the namespace; nil for a virtual machine.
    ///   - tap: the data path; nil with `--splice-only`.
    ///   - holders: the owners of the host's ports at start.
    ///   - logger: where optional ports that could not be opened are logged.
    ///   - policy: who may use the ports.
    ///   - isControlled: whether rules may be added later.
    ///   - handover: keeps the listening sockets, and has those of a predecessor; nil without `--persist`.
    /// - Returns: The forwarded ports, which are not served yet; nil if none are needed.
    /// - Throws: The first port that cannot be opened.
    static func open(
        _ invocation: Invocation, _ thread: NamespaceThread?, _ tap: TapFlowBridge?, _ holders: PortHolders,
        _ logger: Logger, policy: ForwardingPolicy = ForwardingPolicy(), isControlled: Bool, handover: Handover?
    ) throws -> Ports? {
        let rules =
            handover?.changedForwards
            ?? invocation.forwards + invocation.defaultForwards(ephemeralRange: Engine.ephemeralRange())
        guard !rules.isEmpty || isControlled else { return nil }
        var options = PortForwardingOptions(logger: logger)
        options.splicesInbound = invocation.splicesInbound
        options.hostLoopbackToNamespaceLoopback = invocation.hostLoopbackToNamespaceLoopback
        options.holders = holders
        options.policy = policy
        options.keeper = handover
        options.followsHost = invocation.monitorsHost
        options.expectsAbsentAddresses = invocation.bindsAbsentAddresses
        let configuration = invocation.configuration
        if configuration.networkMode == .transparent { options.mirroredInterface = configuration.templateInterface }
        // Sockets made ahead must leave enough descriptors for connections.
        options.socketsAhead = min(options.socketsAhead, Int(clamping: ProcessLimits.openFiles / 64))
        let sockets =
            if let thread {
                NamespaceSockets(
                    open: { requests in thread.run { NamespaceRequest.answers(to: requests) } },
                    openLater: { requests, completion in
                        thread.perform { completion(NamespaceRequest.answers(to: requests)) }
                    })
            } else {
                NamespaceSockets.none
            }
        let loop = try EventLoop()
        let ports = ForwardedPorts(options: options, loop: loop, namespace: sockets, tapFlows: tap)
        try ports.setForwards(rules)
        for rule in ports.forwards {
            let guest = thread == nil ? "guest" : "namespace"
            let text = "\(rule.direction == .inbound ? "to" : "from") the \(guest): \(rule)"
            // Rules of options are logged at a higher level than the defaults, which never change.
            if invocation.forwards.contains(rule) { logger.info("\(text)") } else { logger.debug("\(text)") }
        }
        return Ports(ports: LoopBound(ports, on: loop))
    }

    /// Serves the ports on a thread of their own.
    ///
    /// - Parameters:
    ///   - tap: the data path, which returns stray datagrams; nil with `--splice-only`.
    ///   - filter: the thread's filter of system calls.
    /// - Returns: The access of other threads to the ports.
    /// - Throws: If the thread cannot be started.
    func serve(_ tap: TapFlowBridge?, filter: SystemCallFilter) throws -> LoopBound<ForwardedPorts> {
        _ = try EventLoopThread.start(ports.loop, name: "tapas-ports", serving: ports) {
            Filters.load(filter, for: .ports)
        }
        tap?.giveBack(to: ports)
        return ports
    }
}
