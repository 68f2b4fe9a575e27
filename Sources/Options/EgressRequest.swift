// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes
public import Policy

/// What the command line says on flows that leave the namespace: rules in order, and the record of flows.
public struct EgressRequest: Hashable, Sendable {
    /// A part of the list of rules.
    public enum Part: Hashable, Sendable {
        /// `--allow` or `--deny`.
        case rule(PolicyRule)
        /// `--egress-file`, whose rules take its place in the list.
        case file(String)
    }

    /// Where the flow log goes.
    public enum LogTarget: Hashable, Sendable {
        /// A file.
        case file(String)
        /// A descriptor that the calling program has opened.
        case descriptor(Int32)
    }

    /// `--egress`: the verdict on flows that no rule matches; nil if it was not given.
    public var defaultVerdict: Verdict?
    /// `--allow`, `--deny` and `--egress-file`, in the order given.
    public var parts: [Part] = []
    /// `--deny-silently`.
    public var deniesSilently = false
    /// `--denied-names nxdomain`: queries for names that are not allowed are answered with NXDOMAIN, not REFUSED.
    public var deniesNamesAsAbsent = false
    /// `--allow-from`: the sources that may use forwarded ports; empty for all.
    public var allowedSources: [Prefix] = []
    /// `--max-flows`; nil for no limit of the user's.
    public var maximumFlows: Int?
    /// `--max-flow-rate` in flows a second; nil for no limit.
    public var maximumFlowRate: UInt64?
    /// `--flow-log`.
    public var flowLog: LogTarget?
    /// `--learn`: the file of rules.
    public var learnPath: String?

    /// Makes a request for nothing.
    public init() {}

    /// Whether rules are requested, even if only their default.
    public var hasRules: Bool { defaultVerdict != nil || !parts.isEmpty }
    /// Whether flows that open are decided.
    public var decidesFlows: Bool { hasRules || maximumFlows != nil || maximumFlowRate != nil }
    /// Whether flows are recorded.
    public var recordsFlows: Bool { flowLog != nil || learnPath != nil }
    /// Whether a rule of an option has a name; those of files are not known here.
    public var hasNameRules: Bool {
        parts.contains { part in
            if case .rule(let rule) = part { rule.destination.isName } else { false }
        }
    }
}
