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
        let namespace = try setup.takeNetwork()
        let thread = try NamespaceThread.start(in: namespace)
        let families = thread.run { NamespaceInterface.families() }
        let plan = Self.plan(snapshot, invocation, families, logger)
        var opened: FileDescriptor?
        if !invocation.spliceOnly, let opener = setup.opener.take() {
            opened = try opener.open(in: namespace).release()
        }
        let made = try thread.run { () throws(NamespaceError) in
            try NamespaceObjects.make(invocation, plan, opened)
        }
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

    /// Sets `lo` up, makes the tap (not with `--splice-only`), and programs it (with `--config-net`).
    static func make(
        _ invocation: Invocation, _ plan: NamespacePlan, _ opened: FileDescriptor?
    ) throws(NamespaceError) -> NamespaceObjects {
        try NamespaceInterface.bringLoopbackUp()
        guard !invocation.spliceOnly else {
            try giveUpCapabilities()
            return NamespaceObjects(link: nil, interface: nil, failures: [])
        }
        let tap = try makeTap(plan.interfaceName, opened)
        NamespaceInterface.lengthenQueue(of: tap.name)
        try giveUpCapabilities()
        guard invocation.configuration.configuresNamespace else {
            return NamespaceObjects(link: .tap(tap), interface: nil, failures: [])
        }
        var interface = try NamespaceInterface(interfaceName: tap.name)
        interface.prepare()
        let failures = interface.apply(diff(applied: interface.initialState, plan: plan))
        return NamespaceObjects(link: .tap(tap), interface: interface, failures: failures)
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
