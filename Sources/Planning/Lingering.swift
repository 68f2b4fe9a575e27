// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// The reasons for addresses that stay although they are not planned, in the order of their texts.
///
/// - Parameter counts: the number of connections of each address.
/// - Returns: A reason for each.
public func lingeringReasons(_ counts: [IPAddress: Int]) -> [(address: IPAddress, reason: Reason)] {
    counts.sorted { "\($0.key)" < "\($1.key)" }.map { address, count in
        (address, Reason(address.family, .lingers(address, flowCount: count), .lingering))
    }
}

extension NamespacePlan {
    /// Appends the reasons for lingering addresses to the plan's own, in place of earlier ones.
    ///
    /// - Parameter counts: the number of connections of each address.
    public mutating func note(lingering counts: [IPAddress: Int]) {
        reasons.removeAll { $0.placement == .lingering }
        reasons += lingeringReasons(counts).map(\.reason)
    }
}
