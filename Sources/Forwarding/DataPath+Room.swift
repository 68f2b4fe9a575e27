// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Room for flows: the table is bounded, and so are the descriptors of the process. Which flow makes room for another is
// the matter of `FlowShares`.
//
// Some descriptors are kept free for what is no flow: connections to be accepted, pipes, the host's monitor. The kernel
// gives the lowest number that is free, so a number close to the limit says that few are left, and the flow that has
// got it makes another one go.
//
// syscalls: setup(main): prlimit64

internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// The most descriptors that the process may have, as the limit is now.
    static var openFilesLimit: Int {
        var limit = rlimit()
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return .max }
        return Int(clamping: limit.rlim_cur)
    }

    /// The first descriptor number that flows do not keep, for a limit of open files.
    static func reserveStart(limit: Int) -> Int { limit - min(64, limit / 16) }

    /// Makes room for and adds a flow; nil if not even that helped.
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

    /// Whether a flow may begin: not if whoever opens it floods.
    private mutating func admits(_ key: FlowKey, as kind: FlowKind) -> Bool {
        let isTooHigh = openingLoad.isTooHigh(tapHasMore: linkHasMore, now: now.nanoseconds)
        switch table.standing(of: key, as: kind, now: now.nanoseconds) {
        case .modest: return true
        case .crowded: return !isTooHigh
        // The clients of a forwarded port share lists with whoever floods it, and their sockets are there already.
        case .flooding: return kind.isInbound && !isTooHigh
        }
    }

    /// Gives up a flow of whoever has most, but not the one that is `spared`.
    mutating func evict(sparing spared: Int = -1, at bound: Evictions.Bounds) -> Bool {
        guard let victim = table.evictionCandidate(now: now.nanoseconds, sparing: spared) else { return false }
        giveUp(victim, at: bound)
        return true
    }

    /// Ends a flow for the benefit of others.
    private mutating func giveUp(_ victim: Int, at bound: Evictions.Bounds) {
        counters.flowsEvicted &+= 1
        evictions.count(FlowShares.kind(of: table[victim]), at: bound, now: now.nanoseconds)
        if table[victim].key.transport == .tcp {
            carryOut(table[victim].evicted(), for: victim)
        } else {
            closeFlow(victim)
        }
    }

    /// Gives up a flow if the socket of a new one is among the last descriptors of the process.
    @inline(__always)
    mutating func keepReserve(_ index: Int, socket: CInt) {
        if Int(socket) >= firstReservedDescriptor { _ = evict(sparing: index, at: .descriptors) }
    }

    /// Says which flows had to go, if that is due.
    mutating func tellEvictions() {
        guard evictions.deadline <= now.nanoseconds else { return }
        let line = evictions.take(
            now: now.nanoseconds, descriptorLimit: Self.openFilesLimit, flowLimit: options.maximumFlows)
        options.logger.warning("\(line)")
    }
}
