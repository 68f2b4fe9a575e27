// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import LinuxSystem
internal import NamespaceControl
internal import NetworkModel
internal import NetworkTypes

// Both are actors with an executor of their own, never plain values with asynchronous methods: those would run on the
// concurrency runtime's pool, whose threads look for /proc and end the program in an empty root.

/// What following the host does to flows; played in tests.
protocol FlowControl: Actor {
    /// Puts rules in force for new flows, and does to existing ones what the change means for them.
    ///
    /// - Parameters:
    ///   - rules: the rules.
    ///   - services: what the services tell.
    ///   - fates: what the change means for existing flows.
    ///   - leaving: addresses of the namespace that are not planned any more.
    /// - Returns: how many flows were ended.
    func publish(
        _ rules: TranslationRules, _ services: ServiceSettings, fates: FlowFates, leaving: Set<IPAddress>
    ) -> Int

    /// Takes the host's neighbours, whose hardware addresses the namespace is told.
    func publish(neighbours: [IPAddress: MACAddress])

    /// Ends all flows of an address of the namespace.
    func resetFlows(of address: IPAddress)

    /// Forgets addresses that the namespace took by itself and was seen to have dropped.
    func forgetObserved(_ addresses: Set<IPAddress>)

    /// How many flows keep each of some addresses of the namespace that are not planned any more.
    func flowsKeeping(_ leaving: Set<IPAddress>) -> [IPAddress: Int]
}

/// What following the host does to the namespace's interface; played in tests.
protocol InterfaceControl: Actor {
    /// What holds now, read from the namespace's kernel.
    func state() throws(NamespaceError) -> AppliedState

    /// Carries out operations in order and reads back what holds.
    func apply(
        _ operations: [NamespaceOperation], resetFlows: @Sendable (IPAddress) async -> Void
    ) async throws(NamespaceError) -> AppliedResult
}

extension NamespaceConfigurator: InterfaceControl {}
