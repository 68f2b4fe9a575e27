// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import Netlink
public import NetworkModel
public import NetworkTypes

/// Why the host's state was read.
public struct HostChangeCauses: Hashable, Sendable, CustomStringConvertible {
    /// The tables that notifications named.
    public var tables: HostTables = []
    /// The contents of resolv.conf changed.
    public var resolvers = false
    /// Notifications were lost, and everything was read again.
    public var overflow = false
    /// An IPv6 route's lifetime ended.
    public var routeExpiry = false
    /// A hold-down ended.
    public var holdDownEnd = false
    /// Notifications are not available, so the host is read periodically.
    public var poll = false
    /// Notifications were applied as they are; the tables must be read to confirm them.
    public var check = false
    /// The machine slept for this time in milliseconds; 0 for a wall clock that jumped.
    public var clockJump: Int64?

    /// Makes an empty set of causes.
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

/// A change of the host's network: the new state, its causes and times.
public struct HostChange: Hashable, Sendable {
    /// The new state; its epoch counts the changes.
    public var snapshot: HostSnapshot
    /// Why the host's state was read.
    public var causes: HostChangeCauses
    /// The families whose loss is held back; the state shows them as they were.
    public var held: [AddressFamily]
    /// The time of the first cause.
    public var firstEvent: MonotonicTime
    /// The time of the last cause.
    public var lastEvent: MonotonicTime
    /// The time at which the change was published.
    public var published: MonotonicTime
    /// All changes since the state that was published before, in order; nil if anything may differ.
    public var routeChanges: [RouteEvent]?
}

/// The counters of a monitor.
public struct MonitorCounters: Hashable, Sendable {
    /// Notifications read.
    public var notifications = 0
    /// Times that notifications were lost.
    public var overflows = 0
    /// Times that tables were read.
    public var readings = 0
    /// Readings that failed.
    public var failures = 0
    /// Readings that were repeated because something changed meanwhile.
    public var postponed = 0
    /// Times that notifications of routes were applied without reading the tables.
    public var shortcuts = 0
    /// Readings after which nothing was different.
    public var unchanged = 0
    /// Changes published.
    public var changes = 0
    /// Losses that were held back.
    public var holdDowns = 0
    /// Sleeps and clock jumps.
    public var clockJumps = 0
    /// Reports about resolv.conf.
    public var resolverReports = 0
    /// The duration of all readings, in nanoseconds.
    public var readingNanoseconds: Int64 = 0

    /// Makes counters of zero.
    public init() {}
}
