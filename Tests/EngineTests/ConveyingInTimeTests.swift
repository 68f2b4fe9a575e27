// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import Planning
import Testing
import Wire

@testable import Engine
@testable import Forwarding
@testable import HostMonitor

/// A change of the host on its path through the engine, from the monitor's report to the frames on the link: the
/// follower on its thread, the data path on its own, and a link whose other end is the test.
@Suite("Conveying a change in time", .timeLimit(.minutes(2)))
struct ConveyingInTimeTests {
    /// The limit from the plan to all means, in milliseconds.
    private static let limit: Int64 = 250

    /// All messages by which a change of networks is announced to a namespace that tapas does not program.
    private enum Means: Hashable, CaseIterable {
        case newPrefix, oldPrefix, forceRenew, carrier
    }

    /// Reads the link every millisecond on the data path's thread, because the threads of the tests may have to wait
    /// for each other.
    private final class Lookout {
        private let link: MemoryLink
        private let loop: EventLoop
        private var memory = [UInt8](repeating: 0, count: 70_000)
        private(set) var hasLease = false
        /// The change that is under way.
        var change: (start: MonotonicTime, old: Prefix, new: Prefix)?
        /// How long after the start each means was seen, in milliseconds.
        private(set) var seen: [Means: Int64] = [:]

        init(_ link: MemoryLink, loop: EventLoop) {
            self.link = link
            self.loop = loop
        }

        func look() {
            let now = MonotonicTime.now
            while let count = memory.withUnsafeMutableBytes(link.take) { take(Array(memory[..<count]), at: now) }
            if let change, link.carrierChanges > 0 { note(.carrier, now.milliseconds(since: change.start)) }
            guard seen.count < Means.allCases.count else { return }
            loop.schedule(at: now.advanced(milliseconds: 1)) { _ in self.look() }
        }

        private func take(_ frame: [UInt8], at now: MonotonicTime) {
            guard let change else {
                let summary = try? FrameSummary(frame.span)
                hasLease = hasLease || summary?.kind == .udp && summary?.destinationPort == DHCPv4Message.clientPort
                return
            }
            for means in ConveyingInTimeTests.means(of: frame, old: change.old, new: change.new) {
                note(means, now.milliseconds(since: change.start))
            }
        }

        private func note(_ means: Means, _ time: Int64) { seen[means] = seen[means] ?? time }
    }

    /// A data path on a thread of its own, and a guest with a DHCP lease that takes FORCERENEW.
    private struct Guest {
        static let mac = MACAddress(2, 0, 0, 0, 0, 0x0A)
        let forwarder: LoopBound<Forwarder>
        private let link: LoopBound<MemoryLink>
        private let lookout: LoopBound<Lookout>

        init(_ plan: NamespacePlan) throws {
            let loop = try EventLoop()
            let memory = MemoryLink(capabilities: [.carrier])
            let path = try Forwarder(
                link: .memory(memory), rules: plan.rules, services: plan.services,
                options: ForwardingOptions(logger: Logger(label: "test")), loop: loop)
            path.beginAnnouncing()
            forwarder = LoopBound(path, on: loop)
            link = LoopBound(memory, on: loop)
            lookout = LoopBound(Lookout(memory, loop: loop), on: loop)
            _ = try EventLoopThread.start(loop, name: "test-path", serving: forwarder)
            lookout.perform { $0.look() }
        }

        /// Asks for a lease, with the offer to take FORCERENEW.
        func requestLease() {
            var message = DHCPv4Message(
                request: .request, transactionID: 77, clientMAC: Self.mac,
                options: [.init(DHCPv4Message.OptionCode.forceRenewNonceCapable, [1])])
            message.wantsBroadcast = true
            var frame = [UInt8](repeating: 0, count: 1000)
            var span = frame.mutableSpan
            let count = UDPHeader.writeFrame(
                message.bytes.span, from: DHCPv4Message.clientPort, to: DHCPv4Message.serverPort,
                ip: IPHeader(
                    .v4, source: IPv6Address(mapping: .unspecified), destination: IPv6Address(mapping: .broadcast),
                    ipProtocol: .udp),
                to: .broadcast, from: Self.mac, into: &span)
            let bytes = Array(frame[..<count])
            link.perform { link in
                if !bytes.withUnsafeBytes(link.send) { Issue.record("the link took no frame") }
            }
            forwarder.perform { $0.ready(EventToken(kind: TokenKind.link), .readable, now: .now) }
        }

        /// What comes from now on is the change's.
        func expect(_ start: MonotonicTime, from old: Prefix, to new: Prefix) {
            lookout.perform { $0.change = (start, old, new) }
        }

        /// Whether the lease has come, and how long each means took.
        func state() async -> (hasLease: Bool, seen: [Means: Int64]) {
            await withCheckedContinuation { continuation in
                lookout.perform { continuation.resume(returning: ($0.hasLease, $0.seen)) }
            }
        }
    }

    /// The part of a change that a frame announces.
    private static func means(of frame: [UInt8], old: Prefix, new: Prefix) -> [Means] {
        guard let summary = try? FrameSummary(frame.span) else { return [] }
        if summary.kind == .udp, summary.destinationPort == DHCPv4Message.clientPort {
            let payload = Array(frame[summary.payloadOffset...])
            let message = try? DHCPv4Message(payload.span)
            return message?.kind == .forceRenew ? [.forceRenew] : []
        }
        guard summary.kind == .icmpv6, summary.icmpType == ICMPv6Type.routerAdvertisement else { return [] }
        return [(Means.oldPrefix, old), (.newPrefix, new)].filter { means, prefix in
            // The prefix option has both lifetimes 12 bytes before the prefix.
            let wanted = bytes(prefix)
            guard let at = frame.indices.first(where: { frame[$0...].starts(with: wanted) }), at >= 12 else {
                return false
            }
            let isDeprecated = frame[at - 12..<at - 4].allSatisfy { $0 == 0 }
            return isDeprecated == (means == .oldPrefix)
        }.map(\.0)
    }

    private static func bytes(_ prefix: Prefix) -> [UInt8] {
        let address = prefix.network.address.asIPv6
        return [address.high, address.low].flatMap { word in
            stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: word >> UInt64($0)) }
        }
    }

    @Test(
        "every means is on the link within 250 ms of the plan: the best of nine changes, since tests share processors")
    func conveysInTime() async throws {
        let places = [
            (Places.wireless, try #require(Prefix("2001:db8:1::/64"))),
            (Places.wired, try #require(Prefix("fd00::/64"))),
        ]
        var best: [Means: Int64] = [:]
        for round in 0..<9 {
            let (from, old) = places[round % 2]
            let (to, new) = places[1 - round % 2]
            let configuration = Configuration()
            let plan = Planning.plan(from, configuration, namespaceFamilies: [.v4, .v6])
            let guest = try Guest(plan)
            let follower = Follower(
                loop: try EventLoopThread.start().loop, configuration: configuration, families: [.v4, .v6],
                start: .init(snapshot: from, plan: plan), flows: DataPathControl(guest.forwarder), interface: nil,
                logger: Logger(label: "test"))
            guest.requestLease()
            try await eventually { await guest.state().hasLease }
            let start = MonotonicTime.now
            guest.expect(start, from: old, to: new)
            let change = HostChange(
                snapshot: to, causes: HostChangeCauses(), held: [], firstEvent: start, lastEvent: start,
                published: start)
            await follower.hostChanged(change)
            try await eventually { await guest.state().seen.count == Means.allCases.count }
            let seen = await guest.state().seen
            for (means, time) in seen { best[means] = min(best[means] ?? .max, time) }
        }
        for (means, time) in best { #expect(time <= Self.limit, "\(means): \(time) ms") }
        #expect(best.count == Means.allCases.count)
    }
}
