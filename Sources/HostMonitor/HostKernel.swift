// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import Netlink
public import NetworkModel
public import NetworkTypes
public import SystemPackage

/// The kernel that the monitor reads: the real one, or in tests a simulated one.
public protocol HostKernel: AnyObject {
    /// The descriptor that is readable when notifications have arrived; nil if there are none.
    var descriptor: FileDescriptor? { get }

    /// Reads the notifications that have arrived.
    func drain() throws(SystemCallError) -> NetlinkNotifications

    /// Reads tables; the others are taken from `earlier`.
    func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading

    /// The counters of the sockets: requests and notifications.
    var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) { get }
}

/// The kernel of the calling thread's network namespace, reached over two sockets that stay usable without privileges.
public final class NetlinkHostKernel: HostKernel {
    private var socket: NetlinkSocket
    private var subscription: NetlinkSubscription?
    private let families: Set<AddressFamily>
    private var memory = HostRouteMemory()

    /// Subscribes, then opens the socket for dumps, so that no change is missed in between.
    ///
    /// Where subscribing is refused, as in some sandboxes, there are no notifications and the monitor polls.
    ///
    /// - Throws: The error of the socket for requests.
    public init(families: Set<AddressFamily> = [.v4, .v6]) throws(SystemCallError) {
        self.families = families
        do throws(SystemCallError) {
            subscription = try NetlinkSubscription()
        } catch {
            subscription = nil
        }
        socket = try NetlinkSocket()
    }

    /// The subscription's descriptor; nil if subscribing was refused.
    public var descriptor: FileDescriptor? { subscription?.descriptor }

    /// Reads the notifications that have arrived, a bounded number.
    ///
    /// - Throws: The error of recvmsg(2).
    public func drain() throws(SystemCallError) -> NetlinkNotifications {
        try subscription?.drain() ?? NetlinkNotifications()
    }

    /// Dumps tables.
    ///
    /// - Throws: The error of the kernel or of the socket.
    public func read(_ tables: HostTables, onto earlier: HostSnapshot) throws(NetlinkError) -> HostReading {
        try HostSnapshotReader.read(tables, families: families, onto: earlier, using: &socket, memory: &memory)
    }

    /// The counters of the sockets.
    public var counters: (requests: NetlinkCounters, notifications: NetlinkCounters) {
        (socket.counters, subscription?.counters ?? NetlinkCounters())
    }
}
