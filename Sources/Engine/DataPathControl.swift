// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes

/// The data path as the control plane reaches it: an actor on the data path's own loop, so that a call is a hop to that
/// thread between two turns, never a lock.
actor DataPathControl: FlowControl {
    private let dataPath: LoopBound<Forwarder>

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe dataPath.loop.asUnownedSerialExecutor() }

    /// Reaches a data path.
    init(_ dataPath: LoopBound<Forwarder>) {
        self.dataPath = dataPath
    }

    func publish(
        _ rules: TranslationRules, _ services: ServiceSettings, fates: FlowFates, leaving: Set<IPAddress>
    ) -> Int {
        dataPath.onLoop { forwarder in
            forwarder.publish(rules, services: services, leaving: leaving)
            return forwarder.apply(fates)
        }
    }

    func publish(neighbours: [IPAddress: MACAddress]) {
        dataPath.onLoop { $0.publish(neighbours: neighbours) }
    }

    func resetFlows(of address: IPAddress) {
        dataPath.onLoop { $0.resetFlows(guestAddress: address) }
    }

    func flowsKeeping(_ leaving: Set<IPAddress>) -> [IPAddress: Int] {
        dataPath.onLoop { $0.flowsKeeping(leaving) }
    }
}
