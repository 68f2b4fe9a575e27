// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Policy

/// The rules on what may leave, as they are published to the data path.
public struct EgressSettings: Sendable {
    /// The compiled rules.
    public var policy: EgressPolicy
    /// `--deny-silently`: what is denied is dropped, not refused.
    public var deniesSilently = false
    /// `--denied-names nxdomain`: queries for names that are not allowed are answered with NXDOMAIN, not REFUSED.
    public var deniesNamesAsAbsent = false

    /// `--max-flows`: flows of all kinds, beyond which further ones are refused; nil for no limit.
    public var maximumFlows: Int?
    /// `--max-flow-rate`: the number of flows that may open in a second, on average, and at once; nil for no limit.
    public var maximumFlowRate: UInt64?

    /// Makes settings with the defaults of the options.
    public init(policy: EgressPolicy) {
        self.policy = policy
    }

    /// Settings that allow everything, for a record of flows without rules.
    public static var allowingAll: EgressSettings { EgressSettings(policy: EgressPolicy(rules: [], default: .allow)) }
}
