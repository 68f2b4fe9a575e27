// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkModel

/// The result of reading resolv.conf.
public enum ResolverReport: Hashable, Sendable {
    /// The file's text, bounded.
    case text([UInt8])
    /// There is no such file, which is a normal state: nothing is resolved.
    case absent
    /// The file cannot be read, with its errno.
    case unreadable(errno: Int32)

    /// The configuration that the report stands for once it is accepted.
    public var configuration: ResolverConfiguration {
        if case .text(let text) = self { ResolverConfiguration(resolvConf: text) } else { ResolverConfiguration() }
    }
}

/// Decides when a report about resolv.conf is accepted: a pure state machine.
///
/// A file that is being rewritten in place is empty for a moment, or ends in the middle of a line. So a report is held
/// back for one second if it names no server although the last good one did, or if its text does not end with a
/// newline. The next complete report replaces it at once; otherwise it is accepted after that second.
public struct ResolverSettling: Hashable, Sendable {
    /// The time that a doubtful report is held back, in milliseconds.
    public static let patienceMilliseconds: Int64 = 1000

    /// The accepted configuration.
    public private(set) var configuration: ResolverConfiguration
    private var doubtful: ResolverConfiguration?
    /// The time at which the doubtful report is accepted; nil if there is none.
    public private(set) var deadline: MonotonicTime?

    /// Begins with the configuration that was read at start, which is accepted as it is.
    public init(_ configuration: ResolverConfiguration) {
        self.configuration = configuration
    }

    /// Processes a report.
    ///
    /// - Returns: Whether ``configuration`` changed.
    public mutating func take(_ report: ResolverReport, now: MonotonicTime) -> Bool {
        let new = report.configuration
        if isDoubtful(report, new), new != configuration {
            doubtful = new
            if deadline == nil { deadline = now.advanced(milliseconds: Self.patienceMilliseconds) }
            return false
        }
        return accept(new)
    }

    /// Accepts a report that has been held back long enough.
    ///
    /// - Returns: Whether ``configuration`` changed.
    public mutating func expire(now: MonotonicTime) -> Bool {
        guard let deadline, deadline <= now, let doubtful else { return false }
        return accept(doubtful)
    }

    private func isDoubtful(_ report: ResolverReport, _ new: ResolverConfiguration) -> Bool {
        if new.servers.isEmpty, !configuration.servers.isEmpty { return true }
        if case .text(let text) = report, let last = text.last { return last != UInt8(ascii: "\n") }
        return false
    }

    private mutating func accept(_ new: ResolverConfiguration) -> Bool {
        doubtful = nil
        deadline = nil
        guard new != configuration else { return false }
        configuration = new
        return true
    }
}
