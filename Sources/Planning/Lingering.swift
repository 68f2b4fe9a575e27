// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// Why addresses stay that are not planned, in the order of their texts.
///
/// - Parameter counts: how many connections keep each address.
/// - Returns: a reason for each.
public func lingeringReasons(_ counts: [IPAddress: Int]) -> [(address: IPAddress, reason: Reason)] {
    counts.sorted { "\($0.key)" < "\($1.key)" }.map { address, count in
        (address, Reason(address.family, .lingers(address, flowCount: count), .lingering))
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
