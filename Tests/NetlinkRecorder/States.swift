// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Carries random operations out on an interface of the real kernel and writes down what came of each: what the
// simulated kernel that diff() looks ahead with is held against (Tests/PlanningTests/RecordedKernelTests.swift).
//
//   unshare -Urn netlink-recorder --states > Tests/Fixtures/kernel-states.txt
//
// One record a line: `seed N` begins with a new interface; `op WORDS` is an operation; `refused WHY` follows where the
// kernel would not; `- LINE` and `+ LINE` say how the canonical text of the state has changed.

import Glibc
import NamespaceControl
import NetlinkTestSupport
import NetworkModel
import NetworkTypes
import Planning

private let device = "d"

/// The state's lines, the link-local address that the kernel or the interface adds by itself left out.
private func lines(_ state: AppliedState) -> [String] {
    var state = state
    state.addresses.removeAll { $0.value.family == .v6 && $0.value.address.isLinkLocal }
    state.routes.removeAll { $0.value.destination.address.isLinkLocal && $0.value.family == .v6 }
    state.mac = nil
    return state.canonicalText(device: device).split(separator: "\n").map(String.init)
}

func recordStates() throws {
    var name = utsname()
    uname(&name)
    let release = withUnsafeBytes(of: name.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    print("# Written by netlink-recorder --states on Linux \(release).")
    run("ip link set lo up")
    for seed in 1...40 as ClosedRange<UInt64> {
        run(
            """
            ip link add name \(device) type veth peer name peer && ip link set peer up \
            && echo 0 > /proc/sys/net/ipv4/conf/\(device)/promote_secondaries \
            && echo 0 > /proc/sys/net/ipv4/conf/all/promote_secondaries \
            && echo 0 > /proc/sys/net/ipv6/conf/\(device)/accept_ra
            """)
        defer { run("ip link del dev \(device)") }
        print("seed \(seed)")
        var interface = try NamespaceInterface(interfaceName: device)
        var operations = RandomOperations(seed: seed)
        var state = try interface.state()
        var before = lines(state)
        for _ in 0..<30 {
            let operation = operations.next(state)
            print("op \(operation.text(device: device))")
            for failure in interface.apply([operation]) { print("refused \(failure)") }
            state = try interface.state()
            let after = lines(state)
            for line in before where !after.contains(line) { print("- \(line)") }
            for line in after where !before.contains(line) { print("+ \(line)") }
            before = after
        }
    }
}
