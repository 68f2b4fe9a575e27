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

/// The namespace's network: its thread, the plan, the tap and the interface.
struct Network: ~Copyable {
    /// The thread in the namespace.
    let thread: NamespaceThread
    /// The families that the namespace's kernel has.
    let families: Set<AddressFamily>
    /// The plan for the namespace.
    let plan: NamespacePlan
    /// The tap; nil with `--splice-only`.
    var tap: TapDevice?
    /// Reprograms the interface; nil without `--config-net`.
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
        let plan = Planning.plan(snapshot, invocation.configuration, namespaceFamilies: families)
        for line in plan.summary { logger.info("\(line)") }
        for reason in plan.reasons { logger.debug("\(reason)") }
        for warning in plan.warnings { logger.warning("\(warning)") }
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
        tap = made.tap
        failures = made.failures.map(\.description)
        interface = made.interface
    }
}

/// The objects that are made on the namespace's thread, in one call.
private struct NamespaceObjects: ~Copyable, Sendable {
    let tap: TapDevice?
    let interface: NamespaceInterface?
    let failures: [OperationFailure]

    /// Sets `lo` up, makes the tap (not with `--splice-only`), and programs it (with `--config-net`).
    static func make(
        _ invocation: Invocation, _ plan: NamespacePlan, _ opened: FileDescriptor?
    ) throws(NamespaceError) -> NamespaceObjects {
        try NamespaceInterface.bringLoopbackUp()
        guard !invocation.spliceOnly else {
            try giveUpCapabilities()
            return NamespaceObjects(tap: nil, interface: nil, failures: [])
        }
        let tap = try makeTap(plan.interfaceName, opened)
        NamespaceInterface.lengthenQueue(of: tap.name)
        try giveUpCapabilities()
        guard invocation.configuration.configuresNamespace else {
            return NamespaceObjects(tap: tap, interface: nil, failures: [])
        }
        var interface = try NamespaceInterface(interfaceName: tap.name)
        interface.prepare()
        let failures = interface.apply(diff(applied: interface.initialState, plan: plan))
        return NamespaceObjects(tap: tap, interface: interface, failures: failures)
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
