// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The monitor against the real kernel: a burst of 20,000 route events with the default buffer, fifty gains from a bare
// link to a dual stack, changes during dumps, and idling. What must hold is asserted (the final state is the kernel's,
// an idle monitor does not wake up); figures are printed as JSON and judged elsewhere.
//
//   unshare -Urn netlink-recorder --measure

import Glibc
import HostMonitor
import LinuxSystem
import Netlink
import NetworkModel
import NetworkTypes
import Planning
import SystemPackage

/// A monitor with the loop that drives it: waits for notifications and deadlines, and counts its wake-ups.
private final class Driver {
    let kernel: NetlinkHostKernel
    let core: MonitorCore
    var changes: [HostChange] = []
    private(set) var wakeUps = 0

    init(holdDownMilliseconds: Int64 = 2000) throws {
        kernel = try NetlinkHostKernel()
        var settings = MonitorCore.Settings(hasUsableAddress: hasUsableAddress(in:family:through:))
        settings.holdDownMilliseconds = holdDownMilliseconds
        core = MonitorCore(kernel: kernel, settings: settings)
        _ = try core.begin(now: .now)
        core.onChange = { [unowned self] in changes.append($0) }
    }

    /// Runs until a moment, or until there is nothing left to wait for if `untilQuiet`.
    func run(until end: MonotonicTime, untilQuiet: Bool = false) throws {
        while MonotonicTime.now < end {
            let deadline = core.nextDeadline
            if untilQuiet, deadline == nil, !isReadable(0) { return }
            let next = min(deadline ?? end, end)
            let remaining = next.milliseconds(since: .now) + 1
            if isReadable(CInt(max(0, remaining))) { try core.kernelReadable(now: .now) }
            wakeUps += 1
            if let deadline = core.nextDeadline, deadline <= .now { core.expire(now: .now) }
        }
    }

    private func isReadable(_ milliseconds: CInt) -> Bool {
        var entry = pollfd(fd: kernel.descriptor?.rawValue ?? -1, events: Int16(POLLIN), revents: 0)
        return poll(&entry, 1, milliseconds) > 0
    }

    /// Whether what is shown is what a fresh start sees.
    func isTrue() throws -> Bool {
        let settings = MonitorCore.Settings(hasUsableAddress: hasUsableAddress(in:family:through:))
        let fresh = try MonitorCore(kernel: NetlinkHostKernel(), settings: settings).begin(now: .now)
        return core.published?.hasSameContent(as: fresh) ?? false
    }
}

private func processorSeconds() -> Double {
    var usage = rusage()
    getrusage(RUSAGE_SELF.rawValue, &usage)
    let parts = [usage.ru_utime, usage.ru_stime]
    return parts.reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
}

private func require(_ condition: Bool, _ what: String) {
    guard !condition else { return }
    print("failed: \(what)")
    exit(1)
}

/// Runs a shell command beside us and says when it ended.
private func whileRunning(_ command: String, _ body: () throws -> Void) rethrows {
    let process = popen(command, "r")
    try body()
    require(pclose(process) == 0, command)
}

/// Prints the figures.
func measure() throws {
    run(preparation)
    run(station)
    var lines: [String] = []

    // A burst of 20,000 route events; 2,000 routes stay.
    let batch = "/tmp/netlink-recorder-\(getpid())"
    var adds = ""
    var deletes = ""
    for number in 0..<11_000 {
        let prefix = "10.\(number / 250 / 250 + 1).\(number / 250 % 250).\(number % 250)/32 via 192.0.2.1"
        adds += "route add \(prefix)\n"
        if number >= 2000 { deletes += "route del \(prefix)\n" }
    }
    let file = try FileDescriptor.open(batch, .writeOnly, options: .create, permissions: .ownerReadWrite)
    try file.closeAfter { _ = try file.writeAll((adds + deletes).utf8) }
    let driver = try Driver()
    let before = processorSeconds()
    let start = MonotonicTime.now
    try whileRunning("ip -batch \(batch)") {
        try driver.run(until: start.advanced(milliseconds: 3000))
        try driver.run(until: start.advanced(milliseconds: 30_000), untilQuiet: true)
    }
    require(try driver.isTrue(), "after the burst the monitor shows the kernel's state")
    require(driver.core.published?.routes.filter { $0.destination.length == 32 }.count == 2000, "2,000 routes are left")
    let counters = driver.core.counters
    lines.append(
        """
        "burst": {"notifications": \(counters.notifications), "overflows": \(counters.overflows), \
        "readings": \(counters.readings), "changes": \(counters.changes), \
        "reading_ms": \(counters.readingNanoseconds / 1_000_000), \
        "cpu_seconds": \(processorSeconds() - before)}
        """)
    run("ip route flush proto boot root 10.0.0.0/8")

    // The same while nobody reads: the default buffer overflows.
    let deaf = try Driver()
    run("ip -batch \(batch); rm \(batch)")
    try deaf.run(until: MonotonicTime.now.advanced(milliseconds: 10_000), untilQuiet: true)
    require(deaf.core.counters.overflows > 0, "nobody read, so that notifications were lost")
    require(try deaf.isTrue(), "after the overflow the monitor shows the kernel's state")
    lines.append(
        """
        "overflow": {"notifications": \(deaf.core.counters.notifications), \
        "overflows": \(deaf.core.counters.overflows), "readings": \(deaf.core.counters.readings)}
        """)
    run("ip route flush proto boot root 10.0.0.0/8")

    // Gains: a bare link becomes a dual stack.
    var gains: [Int64] = []
    let gain = try Driver(holdDownMilliseconds: 0)
    for _ in 0..<50 {
        run("ip link set w0 down && ip address flush dev w0 && ip link set w0 up")
        try gain.run(until: MonotonicTime.now.advanced(milliseconds: 5000), untilQuiet: true)
        gain.changes = []
        run(
            """
            ip address add 192.0.2.10/24 dev w0 && ip route add default via 192.0.2.1 \
            && ip address add 2001:db8:1::10/64 dev w0 nodad && ip -6 route add default via 2001:db8:1::1
            """)
        try gain.run(until: MonotonicTime.now.advanced(milliseconds: 5000), untilQuiet: true)
        guard let last = gain.changes.last else { continue }
        gains.append((last.published.nanoseconds - last.lastEvent.nanoseconds) / 1000)
    }
    gains.sort()
    require(gains.count == 50, "each gain is told")
    require(try gain.isTrue(), "after the gains the monitor shows the kernel's state")
    lines.append(
        "\"gain_after_last_event_us\": {\"median\": \(gains[25]), \"worst\": \(gains[49]), \"runs\": \(gains.count)}")

    // Dumps while the tables change: interrupted ones are begun again, and the end is right.
    run("for i in $(seq 60); do ip link add k$i type veth peer name l$i || exit 1; done")
    let churn = try Driver()
    let end = MonotonicTime.now.advanced(milliseconds: 4000)
    try whileRunning(
        """
        for i in $(seq 400); do ip link add c$i type veth peer name d$i && ip address add 10.77.$((i % 250)).1/24 dev c$i \
        && ip link set c$i up && ip link del c$i || exit 1; done
        """
    ) {
        while MonotonicTime.now < end {
            try churn.run(until: MonotonicTime.now.advanced(milliseconds: 5))
            _ = try churn.kernel.read(.all, onto: HostSnapshot())
        }
    }
    try churn.run(until: MonotonicTime.now.advanced(milliseconds: 10_000), untilQuiet: true)
    require(try churn.isTrue(), "after the churn the monitor shows the kernel's state")
    lines.append(
        """
        "churn": {"interrupted_dumps": \(churn.kernel.counters.requests.interruptedDumps), \
        "requests": \(churn.kernel.counters.requests.requests), "readings": \(churn.core.counters.readings)}
        """)

    // Idle.
    let idle = try Driver()
    let count = idle.wakeUps
    try idle.run(until: MonotonicTime.now.advanced(milliseconds: 5000))
    // The one is the end of the wait.
    require(idle.wakeUps - count <= 1, "an idle monitor does not wake up")
    lines.append("\"idle_wakeups_in_5_s\": \(idle.wakeUps - count - 1)")
    print("{\(lines.joined(separator: ",\n "))}")
}
