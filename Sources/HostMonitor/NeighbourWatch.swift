// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// Neighbours come and go all the time and change nothing of a plan, so they are not part of the snapshot. As with the
// host's tables, a notification is a hint: shortly after it, the neighbours of the watched links are dumped and
// compared with the last report. Lost notifications are not a special case, because each report comes from a dump.

public import LinuxSystem
public import Logging
internal import Netlink
public import NetworkModel
public import NetworkTypes

/// Watches the host's neighbours on some links: who has which hardware address.
public actor NeighbourWatch {
    /// How long after a notification the tables are read, in milliseconds.
    private static let settleTime: Int64 = 200
    /// The greatest number of neighbours that are reported.
    static let most = 4096

    private let loop: EventLoop
    private var socket: NetlinkSocket
    private var subscription: NetlinkSubscription
    private let log: Logger
    private var onChange: (@Sendable ([IPAddress: MACAddress]) -> Void)?
    private var links = PerFamily<InterfaceIndex?>(v4: nil, v6: nil)
    private var reported: [IPAddress: MACAddress] = [:]
    private var source: EventLoop.SourceID?

    /// The loop's thread runs the actor.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

    /// Subscribes in the calling thread's network namespace; ``start(_:)`` begins.
    ///
    /// - Parameters:
    ///   - loop: the loop to live on.
    ///   - logger: where failures are logged.
    /// - Throws: the error of socket(2), bind(2) or setsockopt(2).
    public init(loop: EventLoop, logger: Logger) throws(SystemCallError) {
        self.loop = loop
        log = logger
        socket = try NetlinkSocket()
        subscription = try NetlinkSubscription(to: [.neighbour])
    }

    /// Begins to watch.
    ///
    /// - Parameter onChange: called on the loop's thread with all neighbours, after each change.
    /// - Throws: the error of epoll_ctl(2).
    public func start(
        _ onChange: @escaping @Sendable ([IPAddress: MACAddress]) -> Void
    ) throws(SystemCallError) {
        self.onChange = onChange
        try listen()
    }

    /// The loop keeps the watch alive.
    private func listen() throws(SystemCallError) {
        guard let descriptor = subscription.descriptor else { return }
        source = try loop.watch(descriptor) { _ in self.assumeIsolated { $0.readable() } }
    }

    /// Watches these links from now on, one for each family; nil for none.
    public func follow(_ new: PerFamily<InterfaceIndex?>) {
        guard new != links else { return }
        links = new
        read()
    }

    /// Further notifications stay in the socket until the tables are read, so that a busy network does not wake the
    /// process for each.
    private func readable() {
        if let source { loop.unwatch(source) }
        source = nil
        loop.schedule(at: .now.advanced(milliseconds: Self.settleTime)) { _ in
            self.assumeIsolated { $0.settled() }
        }
    }

    private func settled() {
        do throws(SystemCallError) {
            _ = try subscription.drain()
            try listen()
        } catch {
            log.info("the host's neighbours are followed no longer: \(error)")
        }
        read()
    }

    private func read() {
        var found: [IPAddress: MACAddress] = [:]
        for family in AddressFamily.allCases {
            guard let link = links[family] else { continue }
            do throws(NetlinkError) {
                for neighbour in try socket.neighbours(family, on: link) where found.count < Self.most {
                    guard let mac = neighbour.usableMAC else { continue }
                    found[neighbour.address] = mac
                }
            } catch {
                // The link may be gone by now: the next plan says which to watch.
                log.debug("the neighbours of link \(link.rawValue) cannot be read: \(error)")
            }
        }
        guard found != reported else { return }
        reported = found
        onChange?(found)
    }
}

extension Neighbour {
    /// The hardware address to report to the namespace; nil if the entry is not valid or not a neighbour's.
    var usableMAC: MACAddress? {
        guard !state.isDisjoint(with: .usable), let mac, !mac.isMulticast, mac != .zero, !address.isMulticast else {
            return nil
        }
        return mac
    }
}
