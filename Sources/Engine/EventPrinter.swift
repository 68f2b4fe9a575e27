// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Diagnostics
internal import Forwarding
internal import LinuxSystem
internal import PortForwarding

/// Prints the table of `--stats` on standard error, a line at most each interval and only if something has happened.
///
/// It lives on the control loop; the counters come from the loops that count.
actor EventPrinter {
    private let loop: EventLoop
    private let interval: Int64
    private let dataPath: DataPathControl?
    private let ports: PortsControl?
    private var table = EventTable()

    nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Makes a printer, which prints nothing before ``start()``.
    ///
    /// - Parameters:
    ///   - loop: the control loop.
    ///   - interval: the shortest time between two lines, in milliseconds.
    ///   - dataPath: counts what comes by the tap; nil with `--splice-only`.
    ///   - ports: counts what comes by forwarded ports; nil without any.
    init(loop: EventLoop, interval: Int64, dataPath: DataPathControl?, ports: PortsControl?) {
        self.loop = loop
        self.interval = interval
        self.dataPath = dataPath
        self.ports = ports
    }

    /// Begins to print.
    func start() {
        loop.schedule(at: .now.advanced(milliseconds: interval)) { _ in self.assumeIsolated { $0.isDue() } }
    }

    private func isDue() {
        Task {
            await writeLine()
            start()
        }
    }

    private func writeLine() async {
        var columns: [EventTable.Column] = []
        if let counters = await dataPath?.figures.counters {
            columns += [
                .init(name: "tap", count: counters.linkEvents), .init(name: "TCP socket", count: counters.tcpEvents),
                .init(name: "UDP socket", count: counters.udpEvents),
                .init(name: "ICMP socket", count: counters.echoEvents),
            ]
        }
        if let counters = await ports?.figures.counters {
            columns += [
                .init(name: "listening socket", count: counters.listenerEvents),
                .init(name: "spliced TCP socket", count: counters.spliceEvents),
                .init(name: "spliced UDP socket", count: counters.relayEvents),
            ]
        }
        if let text = table.next(columns) { LogDestinations.writeToStandardError(text) }
    }
}
