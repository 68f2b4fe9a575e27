// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Room for flows: the table is bounded, and so are the descriptors of the process. `FlowShares` decides which flow is
// evicted.
//
// Some descriptors are reserved for other uses: connections to be accepted, pipes, the host's monitor. The kernel
// assigns the lowest free number, so a number close to the limit shows that few are left. Then another flow is evicted.
//
// syscalls: setup(main): prlimit64
// syscalls: running(data-path): prlimit64

internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// The present limit of open descriptors of the process (`RLIMIT_NOFILE`).
    static var openFilesLimit: Int {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
        return Int(clamping: limit.rlim_cur)
    }

    /// The first descriptor number that flows do not keep, for a limit of open files.
    static func reserveStart(limit: Int) -> Int { limit - min(64, limit / 16) }

    /// Adds a flow, and evicts another one if the table is full; nil if there is still no room.
    mutating func addFlow(_ key: FlowKey, hash: UInt32, as kind: FlowKind) -> Int? {
        guard admits(key, as: kind) else {
            counters.drop(.flood)
            return nil
        }
        opened += 1
        if table.shares.count(of: kind) >= kind.most, let victim = table.evictionCandidate(of: kind) {
            giveUp(victim, at: .kind)
        }
        if table.count >= options.maximumFlows, !evict(at: .table) {
            counters.drop(.tableFull)
            return nil
        }
        guard let index = table.insert(key, hash: hash, as: kind, now: now.nanoseconds) else {
            counters.drop(.tableFull)
            return nil
        }
        wheel.adopt(index)
        counters.flowsOpened &+= 1
        if trace.flows { traceFlow(index, "begins") }
        return index
    }

    /// Whether a flow may begin: not if its sender floods.
    private mutating func admits(_ key: FlowKey, as kind: FlowKind) -> Bool {
        let isTooHigh = openingLoad.isTooHigh(tapHasMore: linkHasMore, now: now.nanoseconds)
        switch table.standing(of: key, as: kind, now: now.nanoseconds) {
        case .modest: return true
        case .crowded: return !isTooHigh
        // All clients of a forwarded port share lists with a flood to it, and their sockets exist already.
        case .flooding: return kind.isInbound && !isTooHigh
        }
    }

    /// Evicts a flow of the sender that has most, except the flow `spared`.
    mutating func evict(sparing spared: Int = -1, at bound: Evictions.Bounds) -> Bool {
        guard let victim = table.evictionCandidate(now: now.nanoseconds, sparing: spared) else { return false }
        giveUp(victim, at: bound)
        return true
    }

    /// Ends an evicted flow.
    private mutating func giveUp(_ victim: Int, at bound: Evictions.Bounds) {
        counters.flowsEvicted &+= 1
        evictions.count(FlowShares.kind(of: table[victim]), at: bound, now: now.nanoseconds)
        ending = .evicted
        defer { ending = nil }
        if table[victim].key.transport == .tcp {
            carryOut(table[victim].evicted(), for: victim)
        } else {
            closeFlow(victim)
        }
    }

    /// Evicts a flow if the socket of a new one is among the last descriptors of the process.
    @inline(__always)
    mutating func evictForReserve(_ index: Int, socket: CInt) {
        if Int(socket) >= firstReservedDescriptor { _ = evict(sparing: index, at: .descriptors) }
    }

    /// Logs which flows were evicted, if the log line is due.
    mutating func logEvictions() {
        guard evictions.deadline <= now.nanoseconds else { return }
        let line = evictions.take(
            now: now.nanoseconds, descriptorLimit: Self.openFilesLimit, flowLimit: options.maximumFlows)
        options.logger.warning("\(line)")
    }
}
