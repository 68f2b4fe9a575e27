// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Diagnostics
internal import Forwarding
internal import LinuxSystem
internal import PortForwarding

/// Prints the table of `--stats` on standard error: at most one line in each interval, and only if a count has changed.
///
/// It runs on the control loop; the counts come from the other loops.
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
    ///   - dataPath: counts the events of the tap and its flows; nil with `--splice-only`.
    ///   - ports: counts the events of forwarded ports; nil if there are none.
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
        let columns = EventTable.columns(await dataPath?.figures.counters, await ports?.figures.counters)
        if let text = table.next(columns) { LogDestinations.writeToStandardError(text) }
    }
}
