// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close

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

/// The namespace's network: its thread, the plan, the tap, and who programs it.
struct Network: ~Copyable {
    /// The thread that lives in the namespace.
    let thread: NamespaceThread
    /// The families that the namespace's kernel has.
    let families: Set<AddressFamily>
    /// What the namespace is to look like.
    let plan: NamespacePlan
    /// The tap; nil with `--splice-only`.
    var tap: TapDevice?
    /// Who reprograms the interface; nil without `--config-net`.
    var programmer: NamespaceProgrammer?

    /// Plans, makes the tap and programs the namespace.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - snapshot: the host's network.
    ///   - entrance: the namespaces.
    ///   - logger: where warnings and reasons go.
    /// - Throws: If the tap cannot be made.
    init(
        _ invocation: Invocation, snapshot: HostSnapshot, entrance: inout Entrance, logger: Logger
    ) throws {
        let namespace = try entrance.takeNetwork()
        let thread = try NamespaceThread.start(in: namespace)
        let families = thread.run { NamespaceProgrammer.families() }
        let plan = Planning.plan(snapshot, invocation.configuration, namespaceFamilies: families)
        for line in plan.summary { logger.info("\(line)") }
        for reason in plan.reasons { logger.debug("\(reason)") }
        for warning in plan.warnings { logger.warning("\(warning)") }
        var opened: FileDescriptor?
        if !invocation.spliceOnly, let opener = entrance.opener.take() {
            opened = try opener.open(in: namespace).release()
        }
        let made = try thread.run { () throws(NamespaceError) in
            try Made.make(invocation, plan, opened)
        }
        for failure in made.failures { logger.warning("skipped: \(failure)") }
        self.thread = thread
        self.families = families
        self.plan = plan
        tap = made.tap
        programmer = made.programmer
    }
}

/// What is made on the namespace's thread, in one visit.
private struct Made: ~Copyable, Sendable {
    let tap: TapDevice?
    let programmer: NamespaceProgrammer?
    let failures: [OperationFailure]

    /// Brings `lo` up; makes the tap, unless there is to be none; programs it, if it is to be.
    static func make(
        _ invocation: Invocation, _ plan: NamespacePlan, _ opened: FileDescriptor?
    ) throws(NamespaceError) -> Made {
        try NamespaceProgrammer.bringLoopbackUp()
        guard !invocation.spliceOnly else {
            try giveUpCapabilities()
            return Made(tap: nil, programmer: nil, failures: [])
        }
        let tap = try makeTap(plan.interfaceName, opened)
        NamespaceProgrammer.lengthenQueue(of: tap.name)
        try giveUpCapabilities()
        guard invocation.configuration.configuresNamespace else {
            return Made(tap: tap, programmer: nil, failures: [])
        }
        var programmer = try NamespaceProgrammer(interfaceName: tap.name)
        programmer.prepare()
        let failures = programmer.apply(diff(applied: programmer.initialState, plan: plan))
        return Made(tap: tap, programmer: programmer, failures: failures)
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

    /// The thread keeps what reprogramming, and binding ports below 1024 in the namespace, need.
    private static func giveUpCapabilities() throws(NamespaceError) {
        do {
            try Capabilities.restrictThread(to: [.networkAdministration, .bindPrivilegedPorts])
        } catch {
            throw NamespaceError("cannot give up capabilities", error)
        }
    }
}
