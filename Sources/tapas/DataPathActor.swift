// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Forwarding
import LinuxSystem
import NetworkModel
import NetworkTypes

/// The data path as the control plane reaches it: an actor on the data path's own loop, so that a call is a hop to that
/// thread between two turns, never a lock.
actor DataPathActor {
    private let loop: EventLoop
    /// Not Sendable, and used by the loop as its sink: safe because both this actor and the loop's turns run on the
    /// loop's thread, one after the other.
    nonisolated(unsafe) private let forwarder: Forwarder

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    init(loop: EventLoop, forwarder: Forwarder) {
        self.loop = loop
        unsafe self.forwarder = forwarder
    }

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
    ) -> Int {
        unsafe forwarder.publish(rules, services: services, leaving: leaving)
        return unsafe forwarder.apply(fates)
    }

    /// Ends all flows of an address of the namespace.
    func resetFlows(of address: IPAddress) {
        unsafe forwarder.resetFlows(guestAddress: address)
    }

    /// How many flows keep each of some addresses of the namespace that are not planned any more.
    func flowsKeeping(_ leaving: Set<IPAddress>) -> [IPAddress: Int] {
        unsafe forwarder.flowsKeeping(leaving)
    }
}
