// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkModel

/// What a look at resolv.conf found.
public enum ResolverReport: Hashable, Sendable {
    /// The file's text, bounded.
    case text([UInt8])
    /// No such file: a normal state, nothing is resolved.
    case absent
    /// The file cannot be read, with its errno.
    case unreadable(errno: Int32)

    /// What the report says when it is believed.
    public var configuration: ResolverConfiguration {
        if case .text(let text) = self { ResolverConfiguration(resolvConf: text) } else { ResolverConfiguration() }
    }
}

/// Decides when a report about resolv.conf is believed: a pure state machine.
///
/// A file that is being rewritten in place is for a moment empty, or ends in the middle of a line. So a report that
/// names no server although the last good one did, or whose text does not end with a newline, is held back for one
/// second; the next whole report replaces it at once, and otherwise it is believed after all.
public struct ResolverSettling: Hashable, Sendable {
    /// How long a doubtful report is held back, in milliseconds.
    public static let patienceMilliseconds: Int64 = 1000

    /// What is believed.
    public private(set) var configuration: ResolverConfiguration
    private var doubtful: ResolverConfiguration?
    /// When the doubtful report is believed; nil if there is none.
    public private(set) var deadline: MonotonicTime?

    /// Begins with what was read at start, which is believed as it is.
    public init(_ configuration: ResolverConfiguration) {
        self.configuration = configuration
    }

    /// Takes a report.
    ///
    /// - Returns: Whether ``configuration`` changed.
    public mutating func take(_ report: ResolverReport, now: MonotonicTime) -> Bool {
        let new = report.configuration
        if isDoubtful(report, new), new != configuration {
            doubtful = new
            if deadline == nil { deadline = now.advanced(milliseconds: Self.patienceMilliseconds) }
            return false
        }
        return believe(new)
    }

    /// Believes what has been held back long enough.
    ///
    /// - Returns: Whether ``configuration`` changed.
    public mutating func expire(now: MonotonicTime) -> Bool {
        guard let deadline, deadline <= now, let doubtful else { return false }
        return believe(doubtful)
    }

    private func isDoubtful(_ report: ResolverReport, _ new: ResolverConfiguration) -> Bool {
        if new.servers.isEmpty, !configuration.servers.isEmpty { return true }
        if case .text(let text) = report, let last = text.last { return last != UInt8(ascii: "\n") }
        return false
    }

    private mutating func believe(_ new: ResolverConfiguration) -> Bool {
        doubtful = nil
        deadline = nil
        guard new != configuration else { return false }
        configuration = new
        return true
    }
}
