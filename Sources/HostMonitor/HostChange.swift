// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import Netlink
public import NetworkModel
public import NetworkTypes

/// Why the host was looked at.
public struct HostChangeCauses: Hashable, Sendable, CustomStringConvertible {
    /// The tables that notifications named.
    public var tables: HostTables = []
    /// resolv.conf says something else.
    public var resolvers = false
    /// Notifications were lost, and everything was read again.
    public var overflow = false
    /// An IPv6 route's lifetime ended.
    public var routeExpiry = false
    /// A hold-down ended.
    public var holdDownEnd = false
    /// Notifications cannot be had, so that the host is read now and then.
    public var poll = false
    /// Notifications have been taken at their word, which a reading of the tables is to confirm.
    public var check = false
    /// The machine slept for so many milliseconds; 0 for a wall clock that jumped.
    public var clockJump: Int64?

    /// Makes causes of nothing.
    public init() {}

    /// The causes for people: "addresses, routes; resolv.conf".
    public var description: String {
        var words: [String] = []
        if !tables.isEmpty { words.append(tables.description) }
        if resolvers { words.append("resolv.conf") }
        if overflow { words.append("lost notifications") }
        if routeExpiry { words.append("a route expired") }
        if holdDownEnd { words.append("the hold-down ended") }
        if poll { words.append("polled") }
        if check { words.append("checked") }
        if let clockJump { words.append(clockJump > 0 ? "slept for \(clockJump) ms" : "the clock jumped") }
        return words.joined(separator: "; ")
    }
}

/// The host's network changed: the new state, and why and when.
public struct HostChange: Hashable, Sendable {
    /// The state; its epoch counts the changes.
    public var snapshot: HostSnapshot
    /// Why the host was looked at.
    public var causes: HostChangeCauses
    /// The families whose loss is still held back, so that the state shows them as they were.
    public var held: [AddressFamily]
    /// When the first of the causes came.
    public var firstEvent: MonotonicTime
    /// When the last of the causes came.
    public var lastEvent: MonotonicTime
    /// When the change was told.
    public var told: MonotonicTime
    /// All that differs from the state that was told before, in order; nil if anything may.
    public var routeChanges: [RouteEvent]?
}

/// What a monitor has been through.
public struct MonitorCounters: Hashable, Sendable {
    /// Notifications read.
    public var notifications = 0
    /// Times that notifications were lost.
    public var overflows = 0
    /// Times that tables were read.
    public var readings = 0
    /// Readings that failed.
    public var failures = 0
    /// Readings put off because something changed meanwhile.
    public var postponed = 0
    /// Times that notifications of routes were taken at their word.
    public var shortcuts = 0
    /// Readings after which nothing was different.
    public var unchanged = 0
    /// Changes told.
    public var changes = 0
    /// Losses held back.
    public var holdDowns = 0
    /// Sleeps and clock jumps noticed.
    public var clockJumps = 0
    /// Reports about resolv.conf.
    public var resolverReports = 0
    /// How long all readings took, in nanoseconds.
    public var readingNanoseconds: Int64 = 0

    /// Makes counters of nothing.
    public init() {}
}
