// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(namespace): close

internal import Forwarding
internal import HostMonitor
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import Netlink
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import Planning
internal import PortForwarding
internal import Sandbox
internal import SystemPackage

/// The guest's network: the plan and the link; for a namespace also its thread and the interface.
struct Network: ~Copyable {
    /// The thread that lives in the namespace; nil for a virtual machine.
    let thread: NamespaceThread?
    /// The families that the namespace's kernel has; both for a virtual machine, whose families are unknown.
    let families: Set<AddressFamily>
    /// The plan for the guest.
    let plan: NamespacePlan
    /// The link; nil with `--splice-only`.
    var link: LinkSource?
    /// Reprograms the interface; nil without `--config-net`, and for a virtual machine.
    var interface: NamespaceInterface?
    /// The operations that the namespace's kernel has refused.
    let failures: [String]
    /// The namespace's connections of which a predecessor of this engine had the other ends.
    let lostConnections: [ConnectionList.Ends]

    /// Plans, makes the tap and programs the namespace.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - snapshot: the host's network.
    ///   - setup: the namespaces.
    ///   - logger: where warnings and reasons go.
    /// - Throws: If the tap cannot be made.
    init(
        _ invocation: Invocation, snapshot: HostSnapshot, setup: inout NamespaceSetup, logger: Logger
    ) throws {
        try self.init(
            invocation, snapshot: snapshot, namespace: try setup.takeNetwork(), opener: setup.opener.take(), nil, logger
        )
    }

    /// The same for an engine that a supervisor has started.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - snapshot: the host's network.
    ///   - handover: has the namespace, and the tap if there was an engine before.
    ///   - logger: where warnings and reasons go.
    /// - Throws: If the tap cannot be made or taken over.
    init(_ invocation: Invocation, snapshot: HostSnapshot, handover: Handover, logger: Logger) throws {
        guard let file = handover.take(Handover.Name.network) else { throw Failure("there is no network namespace") }
        let namespace = NamespaceFile(network: file, path: invocation.networkNamespacePath ?? "the command's")
        try self.init(invocation, snapshot: snapshot, namespace: namespace, opener: nil, handover, logger)
    }

    private init(
        _ invocation: Invocation, snapshot: HostSnapshot, namespace: consuming NamespaceFile,
        opener: consuming DeviceOpener?, _ handover: Handover?, _ logger: Logger
    ) throws {
        let thread = try NamespaceThread.start(in: namespace)
        let families = thread.run { NamespaceInterface.families() }
        let plan = Self.plan(snapshot, invocation, families, logger)
        var opened = handover?.take(Handover.Name.device)?.release()
        if !invocation.spliceOnly, let opener = opener.take() { opened = try opener.open(in: namespace).release() }
        let made = try thread.run { () throws(NamespaceError) in
            try NamespaceObjects.make(invocation, plan, opened, handover)
        }
        lostConnections = made.lostConnections
        for failure in made.failures { logger.warning("skipped: \(failure)") }
        self.thread = thread
        self.families = families
        self.plan = plan
        link = made.link
        failures = made.failures.map(\.description)
        interface = made.interface
    }

    /// Plans for a virtual machine, which is told everything and programmed by nobody.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - snapshot: the host's network.
    ///   - link: what carries its frames.
    ///   - logger: where warnings and reasons go.
    init(_ invocation: Invocation, snapshot: HostSnapshot, link: consuming LinkSource, logger: Logger) {
        thread = nil
        families = [.v4, .v6]
        plan = Self.plan(snapshot, invocation, families, logger)
        self.link = consume link
        interface = nil
        failures = []
        lostConnections = []
    }

    private static func plan(
        _ snapshot: HostSnapshot, _ invocation: Invocation, _ families: Set<AddressFamily>, _ logger: Logger
    ) -> NamespacePlan {
        let plan = Planning.plan(snapshot, invocation.configuration, namespaceFamilies: families)
        for line in plan.summary { logger.info("\(line)") }
        for reason in plan.reasons { logger.debug("\(reason)") }
        for warning in plan.warnings { logger.warning("\(warning)") }
        return plan
    }
}

/// The objects that are made on the namespace's thread, in one call.
private struct NamespaceObjects: ~Copyable, Sendable {
    let link: LinkSource?
    let interface: NamespaceInterface?
    let failures: [OperationFailure]
    var lostConnections: [ConnectionList.Ends] = []

    /// Sets `lo` up, makes the tap (not with `--splice-only`), and programs it (with `--config-net`).
    static func make(
        _ invocation: Invocation, _ plan: NamespacePlan, _ opened: FileDescriptor?, _ handover: Handover?
    ) throws(NamespaceError) -> NamespaceObjects {
        if let handover, let tap = handover.take(Handover.Name.tap) {
            return try takeOver(invocation, plan, tap, handover)
        }
        try NamespaceInterface.bringLoopbackUp()
        guard !invocation.spliceOnly else {
            try giveUpCapabilities()
            return NamespaceObjects(link: nil, interface: nil, failures: [])
        }
        let tap = try makeTap(plan.interfaceName, opened)
        NamespaceInterface.lengthenQueue(of: tap.name)
        do throws(SystemCallError) {
            try handover?.keep(tap: tap.descriptor)
        } catch {
            throw NamespaceError("the supervisor has ended", error)
        }
        try giveUpCapabilities()
        guard invocation.configuration.configuresNamespace else {
            return NamespaceObjects(link: .tap(tap), interface: nil, failures: [])
        }
        var interface = try NamespaceInterface(interfaceName: tap.name)
        if let handover { interface.record { handover.record($0) } }
        interface.prepare()
        let failures = interface.apply(diff(applied: interface.initialState, plan: plan))
        return NamespaceObjects(link: .tap(tap), interface: interface, failures: failures)
    }

    /// Goes on with the tap of a predecessor, from the state that the namespace is in.
    private static func takeOver(
        _ invocation: Invocation, _ plan: NamespacePlan, _ tap: consuming OwnedFileDescriptor, _ handover: Handover
    ) throws(NamespaceError) -> NamespaceObjects {
        let device: TapDevice
        do throws(SystemCallError) {
            device = try TapDevice(continuing: tap)
        } catch {
            throw .tapInterface(plan.interfaceName, error)
        }
        let lost = ConnectionList.leaving()
        try giveUpCapabilities()
        guard invocation.configuration.configuresNamespace else {
            return NamespaceObjects(link: .tap(device), interface: nil, failures: [], lostConnections: lost)
        }
        var interface = try NamespaceInterface(interfaceName: device.name)
        interface.record { handover.record($0) }
        interface.prepare()
        try interface.adopt(handover.ownedFingerprints)
        let failures = interface.apply(diff(applied: try interface.state(), plan: plan))
        return NamespaceObjects(link: .tap(device), interface: interface, failures: failures, lostConnections: lost)
    }

    private static func makeTap(_ name: String, _ opened: FileDescriptor?) throws(NamespaceError) -> TapDevice {
        let tun: OwnedFileDescriptor
        if let opened { tun = OwnedFileDescriptor(taking: opened) } else { tun = try DeviceOpener.openHere() }
        do {
            return try TapDevice(tun: tun, name: name)
        } catch {
            throw .tapInterface(name, error)
        }
    }

    /// Reduces the thread's capabilities to those for reprogramming and for binding ports below 1024 in the namespace.
    private static func giveUpCapabilities() throws(NamespaceError) {
        do {
            try Capabilities.restrictThread(to: [.networkAdministration, .bindPrivilegedPorts])
        } catch {
            throw NamespaceError("cannot give up capabilities", error)
        }
    }
}
