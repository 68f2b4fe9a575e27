// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// Why addresses stay that are not planned, in the order of their texts.
///
/// - Parameter counts: how many connections keep each address.
/// - Returns: a reason for each.
public func lingeringReasons(_ counts: [IPAddress: Int]) -> [(address: IPAddress, reason: Reason)] {
    counts.sorted { "\($0.key)" < "\($1.key)" }.map { address, count in
        let flows = count == 1 ? "one flow that uses it" : "\(count) flows that use it"
        let text = "address \(address) is not planned any more and stays for \(flows)"
        return (address, Reason(address.family, text, .lingering))
    }
}

extension NamespacePlan {
    /// Puts the reasons for addresses that linger behind the plan's own, in the place of those noted before.
    ///
    /// - Parameter counts: how many connections keep each address.
    public mutating func note(lingering counts: [IPAddress: Int]) {
        reasons.removeAll { $0.weight == .lingering }
        reasons += lingeringReasons(counts).map(\.reason)
    }
}
