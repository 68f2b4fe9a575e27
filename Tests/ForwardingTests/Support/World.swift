// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The whole data path in the test's process. The link is a `MemoryLink`; the test holds the other end and is the guest.
// The host is the host: sockets on its loopback, which the namespace
// reaches through the address mapped to it. The event loop is the real one, run turn by turn on the test's thread; the
// clock is the test's and moves only when told, so that time-outs happen when the test says so. Nothing sleeps: `run`
// turns the loop until a condition holds and fails with what it waited for.

import Glibc
import LinuxSystem
import Logging
import NetworkModel
import NetworkTypes
import TestSupport
import Testing
import Wire

@testable import Forwarding

/// A data path with a namespace that the test plays.
final class World: EventSink {
    static let guestMAC = MACAddress(0x02, 0, 0, 0, 0, 0x0A)
    static let allOffloads = LinkCapabilities.offloads

    let loop: EventLoop
    let forwarder: Forwarder
    let link: MemoryLink
    let offloads: LinkCapabilities
    /// The data path's present; starts at the real one.
    var clock: MonotonicTime
    /// Frames that came from the data path and no test has taken yet.
    var frames: [GuestFrame] = []
    /// Whether the link was reported gone.
    private(set) var linkHasEnded = false
    /// Whether the link was ready in this turn.
    private var linkWasReady = false
    private var buffer = [UInt8](repeating: 0, count: 70_000)

    /// Something that did not happen in time.
    struct Waited: Error, CustomStringConvertible {
        let description: String
    }

    init(
        offloads: LinkCapabilities = World.allOffloads, rules: TranslationRules = .lab,
        services: ServiceSettings = .lab, capacity: Int = 4 << 20,
        options change: (inout ForwardingOptions) -> Void = { _ in }
    ) throws {
        link = MemoryLink(capabilities: offloads, capacity: capacity)
        self.offloads = offloads
        loop = try EventLoop()
        var options = ForwardingOptions(logger: Logger(label: "test"))
        options.maximumFlows = 1024
        change(&options)
        forwarder = try Forwarder(
            link: .memory(link), rules: rules, services: services, options: options, loop: loop)
        clock = .now
        forwarder.linkDidEnd = { [unowned self] in linkHasEnded = true }
    }

    // MARK: EventSink

    func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {
        forwarder.ready(token, readiness, now: clock)
    }

    func batchEnded(now: MonotonicTime) {
        forwarder.batchEnded(now: clock)
        loop.stop()
    }

    var deadline: MonotonicTime? {
        // Conditions may come true without an event of the loop: look again soon.
        isDue || linkWasReady ? MonotonicTime(nanoseconds: 0) : MonotonicTime.now.advanced(milliseconds: 1)
    }

    func deadlineReached(now: MonotonicTime) {
        if isDue { forwarder.deadlineReached(now: clock) }
    }

    private var isDue: Bool { forwarder.deadline.map { $0 <= clock } ?? false }

    // MARK: Time

    /// One turn of the event loop.
    func turn() {
        step()
        collect()
    }

    /// One turn of the event loop, whose frames are left where they are.
    func step() {
        linkWasReady = link.isReady && !linkHasEnded
        if linkWasReady { forwarder.ready(EventToken(kind: TokenKind.link), .readable, now: clock) }
        do { try loop.run(sink: self) } catch { Issue.record("\(error)") }
    }

    /// Turns until a condition holds.
    ///
    /// - Throws: ``Waited`` if it does not within seconds.
    func run(
        until what: @autoclosure () -> String, limit: Int64 = 15_000, _ condition: () throws -> Bool
    ) throws {
        let end = MonotonicTime.now.advanced(milliseconds: limit)
        while true {
            collect()
            if try condition() { return }
            if MonotonicTime.now > end {
                let state = "frames: \(frames), counters: \(forwarder.counters.summary)"
                throw Waited(description: "waited in vain for \(what()); \(state)")
            }
            turn()
        }
    }

    /// Turns until the data path has seen everything sent so far: it answers ARP in order.
    func settle() throws {
        let target = IPv4Address(10, 0, 2, UInt8(200))
        send(GuestFrame.arpRequest(target: target))
        try run(until: "an ARP reply") {
            guard let index = frames.firstIndex(where: { $0.isReply(for: target) }) else { return false }
            frames.remove(at: index)
            return true
        }
    }

    /// Lets time pass and what is due happen.
    func advance(milliseconds: Int64) {
        clock = clock.advanced(milliseconds: milliseconds)
        var turns = 0
        while isDue && turns < 1000 {
            forwarder.deadlineReached(now: clock)
            turns += 1
        }
        if turns == 1000 { Issue.record("deadlines do not end") }
        collect()
    }

    // MARK: Frames

    /// Gives the data path a frame.
    func send(_ frame: [UInt8], header: VirtioNetHeader = VirtioNetHeader()) {
        var bytes = [UInt8](repeating: 0, count: offloads.contains(.header) ? VirtioNetHeader.length : 0)
        if offloads.contains(.header) {
            var span = bytes.mutableSpan
            header.write(into: &span)
        }
        bytes += frame
        sendRaw(bytes)
    }

    /// Sends bytes over the link as they are.
    func sendRaw(_ bytes: [UInt8]) {
        for _ in 0..<1000 {
            if bytes.withUnsafeBytes(link.send) { return }
            turn()
        }
        Issue.record("the link took no frame")
    }

    /// Fetches the frames that the data path has sent, and holds each to what every frame must be.
    func collect() {
        while let count = buffer.withUnsafeMutableBytes(link.take) {
            frames.append(GuestFrame(received: Array(buffer[..<count]), offloads: offloads))
        }
    }

    /// Reads away all frames that wait, looking at none.
    func readAll(into memory: UnsafeMutableRawBufferPointer) {
        while link.take(into: memory) != nil {}
    }

    /// Sends bytes over the link as they are, once.
    func write(_ bytes: UnsafeRawBufferPointer) {
        if !link.send(bytes) { Issue.record("the link took no frame") }
    }

    /// Takes the first frame for which a condition holds.
    func take(_ condition: (GuestFrame) -> Bool) -> GuestFrame? {
        collect()
        return frames.firstIndex(where: condition).map { frames.remove(at: $0) }
    }

    /// Waits for a frame.
    func next(_ what: String, _ condition: (GuestFrame) -> Bool = { _ in true }) throws -> GuestFrame {
        var found: GuestFrame?
        try run(until: what) {
            found = take(condition)
            return found != nil
        }
        return try #require(found)
    }

    /// The guest is gone.
    func closeLink() { link.close() }

    /// How often something was dropped.
    func drops(_ reason: FlowDropReason) -> UInt64 { forwarder.counters[reason] }
}

extension TranslationRules {
    /// The rules of the tests: gateway and host loopback in one.
    static var lab: TranslationRules {
        var rules = TranslationRules()
        rules.families.v4.isEnabled = true
        rules.families.v4.guestAddress = .v4(Lab.guest4)
        rules.families.v4.ownAddress = .v4(Lab.host4)
        rules.families.v4.gateway = .v4(Lab.host4)
        rules.families.v4.hostLoopback = .v4(Lab.host4)
        rules.families.v6.isEnabled = true
        rules.families.v6.guestAddress = .v6(Lab.guest6)
        rules.families.v6.ownAddress = .v6(Lab.host6)
        rules.families.v6.gateway = .v6(Lab.host6)
        rules.families.v6.hostLoopback = .v6(Lab.host6)
        rules.mtu = 65520
        return rules
    }
}

extension ServiceSettings {
    /// What the services of the tests tell: as the rules, without anything that is sent unasked.
    static var lab: ServiceSettings {
        var settings = ServiceSettings()
        settings.services = [.neighborDiscovery, .dhcpv4]
        settings.mtu = 65520
        settings.v4.isEnabled = true
        settings.v4.guestAddress = Prefix(.v4(Lab.guest4), length: 24)
        settings.v4.serverAddress = Lab.host4
        settings.v4.router = Lab.host4
        settings.v4.guestAddresses = [Lab.guest4]
        settings.v4.ownAddresses = [Lab.host4]
        settings.v4.mappedAddresses = [Lab.host4]
        settings.v6.isEnabled = true
        settings.v6.guestAddress = Prefix(.v6(Lab.guest6), length: 64)
        settings.v6.ownAddress = Lab.host6
        settings.v6.gateway = Lab.host6
        settings.v6.isDefaultRouter = true
        settings.v6.guestAddresses = [Lab.guest6]
        settings.v6.mappedAddresses = [Lab.host6]
        return settings
    }

    /// As ``lab``, with Router Advertisements.
    static var routing: ServiceSettings {
        var settings = lab
        settings.services = .all
        return settings
    }
}

/// The addresses of the tests.
enum Lab {
    static let guest4 = IPv4Address(10, 0, 2, 15)
    /// Mapped to the host's 127.0.0.1.
    static let host4 = IPv4Address(10, 0, 2, 2)
    static let guest6 = IPv6Address([0xFD00, 0, 0, 0, 0, 0, 0, 0x15])
    /// Mapped to the host's ::1.
    static let host6 = IPv6Address([0xFE80, 0, 0, 0, 0, 0, 0, 1])

    static func guest(_ family: AddressFamily) -> IPAddress { family == .v4 ? .v4(guest4) : .v6(guest6) }
    static func host(_ family: AddressFamily) -> IPAddress { family == .v4 ? .v4(host4) : .v6(host6) }
}
