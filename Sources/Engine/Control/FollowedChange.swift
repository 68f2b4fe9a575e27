// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Planning

/// One change of the host and all that came of it: what `watch` and the log tell.
struct FollowedChange: Sendable {
    /// How long the steps took, in milliseconds.
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

    /// Counts the changes, from 1; 0 is the state before any.
    var number: UInt64
    /// When it was done, by the wall clock, in milliseconds since 1970.
    var time: Int64
    /// Why the host was looked at, in words.
    var causes: String
    /// The families whose loss is still held back.
    var held: [AddressFamily] = []
    /// What differs in the plan.
    var changes: [PlanChange] = []
    /// What was done in the namespace, in the words of ip(8); the first ones of many.
    var operations: [String] = []
    /// How many operations there were.
    var operationCount = 0
    /// What its kernel refused.
    var failures: [String] = []
    /// How many flows were ended.
    var endedFlows = 0
    /// Host addresses whose flows are kept on the interface named.
    var pinned: [(address: IPAddress, interface: String)] = []
    /// How long it took.
    var latencies = Latencies()

    /// Whether anything came of the change.
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

    /// The most operations that are told one by one; a watcher may not be flooded with a table of 100,000 routes.
    private static let mostOperations = 64

    /// Operations in the words of ip(8).
    static func words(of operations: [NamespaceOperation], on interface: String) -> [String] {
        operations.prefix(mostOperations).map { $0.text(device: interface) }
    }

    private static func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
}
