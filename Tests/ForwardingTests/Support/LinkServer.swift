// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import Logging
import SystemPackage
import Testing

@testable import Forwarding

/// A data path over a listening socket; the test's clients are virtual machines.
final class LinkServer<Link: SocketLink>: EventSink {
    let loop: EventLoop
    let link: Link
    let forwarder: Forwarder
    let address: UnixSocketAddress
    private(set) var hasEnded = false
    private let describe: (Link) -> String

    /// Makes the link with `make` and gives it to the data path as `guest`; `describe` tells of it in failures.
    init(
        _ make: (consuming OwnedFileDescriptor) -> Link, as guest: (Link) -> GuestLink,
        describe: @escaping (Link) -> String
    ) throws {
        let name = "@tapas-link-\(getpid())-\(UInt64.random(in: .min ... .max))"
        address = try #require(UnixSocketAddress(notifying: name))
        let listener = try UnixSocketAddress.socket(.stream)
        try address.bind(listener.descriptor)
        try #require(listen(listener.rawValue, 16) == 0)
        loop = try EventLoop()
        link = make(listener)
        self.describe = describe
        forwarder = try Forwarder(
            link: guest(link), rules: .lab, services: .lab, options: ForwardingOptions(logger: Logger(label: "test")),
            loop: loop)
        forwarder.linkDidEnd = { [unowned self] in hasEnded = true }
    }

    func ready(_ token: EventToken, _ readiness: Readiness, now: MonotonicTime) {
        forwarder.ready(token, readiness, now: now)
    }

    func batchEnded(now: MonotonicTime) {
        forwarder.batchEnded(now: now)
        loop.stop()
    }

    var deadline: MonotonicTime? {
        let soon = MonotonicTime.now.advanced(milliseconds: 1)
        return forwarder.deadline.map { min($0, soon) } ?? soon
    }

    func deadlineReached(now: MonotonicTime) {
        if let deadline = forwarder.deadline, deadline <= now { forwarder.deadlineReached(now: now) }
    }

    /// Runs the loop until a condition holds.
    func run(until what: String, _ condition: () -> Bool) throws {
        let end = MonotonicTime.now.advanced(milliseconds: 15_000)
        while !condition() {
            if MonotonicTime.now > end {
                throw World.Waited(description: "waited in vain for \(what): \(describe(link)), \(link.clients)")
            }
            try loop.run(sink: self)
        }
    }
}
