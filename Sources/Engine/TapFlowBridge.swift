// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import LinuxSystem
internal import NetworkModel
internal import PortForwarding

/// Connects the forwarded ports and the data path, which do not know each other: descriptors and values are passed from
/// one loop to the other.
struct TapFlowBridge: TapFlows {
    private let dataPath: LoopBound<Forwarder>
    private let targets = Published(SpliceTargets())

    /// Connects to a data path; must be called on its loop's thread.
    init(_ forwarder: Forwarder, on loop: EventLoop) {
        dataPath = LoopBound(forwarder, on: loop)
        let targets = targets
        forwarder.guestAddressesDidChange = { targets.publish(SpliceTargets(v4: $0, v6: $1)) }
    }

    /// Makes the data path return datagrams that it cannot deliver; must be called on its loop's thread.
    func giveBack(to ports: LoopBound<ForwardedPorts>) {
        dataPath.perform { forwarder in
            forwarder.didStray = { strays in
                ports.perform { ports in
                    for stray in strays { ports.takeBack([stray.datagram], hasFlow: stray.hasFlow) }
                }
            }
        }
    }

    // MARK: TapFlows

    func take(_ arrivals: consuming Arrivals) {
        let arrivals = arrivals
        dataPath.perform { forwarder in
            for connection in arrivals.connections {
                forwarder.accept(connection.socket, from: connection.peer, to: connection.port, at: connection.address)
            }
            for arrived in arrivals.datagrams {
                forwarder.deliver(arrived.datagram, socket: arrived.socket, to: arrived.port, at: arrived.address)
            }
        }
    }

    func makeRoom(_ completion: @escaping @Sendable () -> Void) {
        dataPath.perform { forwarder in
            forwarder.evictFlow()
            completion()
        }
    }

    var spliceTargets: SpliceTargets { targets.value }
}
