// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Planning

/// One change of the host with its effects, for `watch` and the log.
struct FollowedChange: Sendable {
    /// The durations of the steps, in milliseconds.
    struct Latencies: Sendable, Hashable {
        /// From the first notification to the new state of the host.
        var settled = 0.0
        /// Planning.
        var planned = 0.0
        /// Publishing to the data path.
        var published = 0.0
        /// Reprogramming the namespace.
        var applied = 0.0
        /// From the last notification to the end.
        var total = 0.0
    }

    /// The number of the change, from 1; 0 is the state before the first.
    var number: UInt64
    /// When it was complete, by the wall clock, in milliseconds since 1970.
    var time: Int64
    /// Why the host was read, in words.
    var causes: String
    /// The families whose loss is held back.
    var held: [AddressFamily] = []
    /// The differences of the plan.
    var changes: [PlanChange] = []
    /// The operations in the namespace, in the words of ip(8); at most ``mostOperations``.
    var operations: [String] = []
    /// The number of operations.
    var operationCount = 0
    /// The operations that its kernel refused.
    var failures: [String] = []
    /// The number of flows that were ended.
    var endedFlows = 0
    /// Host addresses whose flows were bound to the interface named.
    var pinned: [(address: IPAddress, interface: String)] = []
    /// The durations.
    var latencies = Latencies()

    /// Whether the change had an effect.
    var isEffective: Bool { !changes.isEmpty || operationCount > 0 || endedFlows > 0 || !pinned.isEmpty }

    /// The line of the log.
    var line: String {
        let milliseconds = Int(latencies.total)
        var parts = [causes.isEmpty ? "host read again" : causes]
        if changes.isEmpty { parts.append("no difference in the plan") }
        parts += changes.map(\.description)
        if operationCount > 0 { parts.append(Self.counted(operationCount, "operation")) }
        if endedFlows > 0 { parts.append("\(Self.counted(endedFlows, "flow")) ended or moved") }
        for (address, interface) in pinned { parts.append("flows of \(address) stay on \(interface)") }
        return "host change \(number) applied \(milliseconds) ms after its last event: \(parts.joined(separator: "; "))"
    }

    /// The greatest number of operations that are reported one by one, so that a table of 100,000 routes does not flood
    /// a client.
    private static let mostOperations = 64

    /// Operations in the words of ip(8).
    static func words(of operations: [NamespaceOperation], on interface: String) -> [String] {
        operations.prefix(mostOperations).map { $0.text(device: interface) }
    }

    private static func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
}
