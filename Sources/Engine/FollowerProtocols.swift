// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import LinuxSystem
internal import NamespaceControl
internal import NetworkModel
internal import NetworkTypes

// Both are actors with an executor of their own. Values with asynchronous methods would run on the concurrency
// runtime's thread pool, which reads /proc and ends the program in an empty root.

/// The follower's access to flows; tests have an implementation of their own.
protocol FlowControl: Actor {
    /// Sets the rules for new flows, and applies the host's change to existing flows.
    ///
    /// - Parameters:
    ///   - rules: the rules.
    ///   - services: the settings of the services.
    ///   - adjustments: the effect of the change on existing flows.
    ///   - unplanned: addresses of the namespace that are no longer planned.
    /// - Returns: the number of flows that were ended.
    func publish(
        _ rules: TranslationRules, _ services: ServiceSettings, adjustments: FlowAdjustments, unplanned: Set<IPAddress>
    ) -> Int

    /// Sets the host's neighbours, whose hardware addresses are announced to the namespace.
    func publish(neighbours: [IPAddress: MACAddress])

    /// Ends all flows of an address of the namespace.
    func resetFlows(of address: IPAddress)

    /// Forgets observed addresses that the namespace no longer has.
    func forgetObserved(_ addresses: Set<IPAddress>)

    /// Counts the flows that keep addresses of the namespace that are no longer planned.
    func connectionCounts(_ unplanned: Set<IPAddress>) -> [IPAddress: Int]
}

/// The follower's access to the namespace's interface; tests have an implementation of their own.
protocol InterfaceControl: Actor {
    /// The present state, read from the namespace's kernel.
    func state() throws(NamespaceError) -> AppliedState

    /// Carries out operations in order and reads back the addresses.
    func apply(
        _ operations: [NamespaceOperation], resetFlows: @Sendable (IPAddress) async -> Void
    ) async throws(NamespaceError) -> AppliedResult
}

extension NamespaceConfigurator: InterfaceControl {}
