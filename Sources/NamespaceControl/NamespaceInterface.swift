// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// This type carries out the plan for the namespace's interface, one `NamespaceOperation` after the other, with
// rtnetlink requests on a socket in the namespace. No failure is fatal: what the kernel refuses is reported, and the
// next `diff()` starts from the state that was read back. A route whose gateway cannot be reached yet is tried again
// after all other operations, in passes, as long as a pass adds at least one such route.
//
// Consecutive changes of routes go to the kernel in batches, since a host may have 100,000 routes.
//
// The kernel does not record who added an object that keeps the host's protocol number. So this type remembers what it
// added (`AppliedState.Ownership`) and marks it in each state that it reads back.
//
// When a link is set up, the kernel adds a link-local address and starts duplicate detection for it, so that the
// address would be unusable for a second. Instead, the kernel is set to add none (`IN6_ADDR_GEN_MODE_NONE`), the same
// address is added without detection, and the mode is restored.
//
// All calls must be made on the namespace's thread, because the requests need its capabilities.
// syscalls: setup(namespace): close ioctl socket

internal import CLinux
internal import Glibc
internal import LinuxSystem
package import Netlink
public import NetworkModel
public import NetworkTypes
internal import SystemPackage

/// An operation that failed.
public struct OperationFailure: Hashable, Sendable, CustomStringConvertible {
    /// The operation.
    public var operation: NamespaceOperation
    /// The reason: the request in ip(8)'s words and the kernel's answer.
    public var reason: String

    /// Makes a failure.
    public init(_ operation: NamespaceOperation, _ reason: String) {
        self.operation = operation
        self.reason = reason
    }

    /// The reason.
    public var description: String { reason }
}

/// The result of carrying out operations.
public struct AppliedResult: Hashable, Sendable {
    /// Our addresses that exist afterwards, as read back.
    public var ourAddresses: Set<IPAddress>
    /// The operations that failed.
    public var failures: [OperationFailure]
}

/// Programs the namespace's interface; lives on the ``NamespaceThread``.
public struct NamespaceInterface: ~Copyable, Sendable {
    /// The interface's index in the namespace.
    public let interface: InterfaceIndex
    /// The interface's name.
    public let name: String
    private var socket: NetlinkSocket
    /// What we have added, so that it can be distinguished from what others have added.
    private var ours = AppliedState.Ownership()
    /// The routes that were read back last.
    private var memory = AppliedRouteMemory()
    private var promotesSecondaries = false
    /// Records what is ours, for a successor of this process; before it is added, too.
    private var record: (@Sendable (AppliedState.Ownership) -> Void)?

    /// Opens a socket in the calling thread's network namespace and looks up the interface.
    ///
    /// - Throws: If the socket cannot be opened or the interface does not exist.
    public init(interfaceName: String) throws(NamespaceError) {
        let index = unsafe if_nametoindex(interfaceName)
        guard index > 0 else {
            throw NamespaceError(
                "no interface '\(interfaceName)' in the namespace",
                SystemCallError("ioctl", interfaceName, currentErrno))
        }
        do {
            socket = try NetlinkSocket()
        } catch {
            throw NamespaceError("cannot ask the namespace's kernel", error)
        }
        name = interfaceName
        interface = InterfaceIndex(rawValue: index)
    }

    /// Makes an interface over a socket, for tests that play the kernel.
    package init(interface: InterfaceIndex, name: String, socket: consuming NetlinkSocket) {
        self.interface = interface
        self.name = name
        self.socket = socket
    }

    /// Sets `lo` up in the calling thread's network namespace.
    ///
    /// - Throws: The kernel's error.
    public static func bringLoopbackUp() throws(NamespaceError) {
        do {
            var socket = try NetlinkSocket()
            try socket.setLink(.loopback, LinkChange(isUp: true))
        } catch {
            throw .loopback(error)
        }
    }

    /// The number of frames that the tap queues for us.
    ///
    /// The kernel's default of 500 covers a burst of 10,000 connections, or 6 ms of datagrams at a gigabit: a scheduler
    /// may keep us waiting longer (docs/benchmarks.md).
    private static let queueLength: UInt32 = 8192

    /// Lengthens the tap's queue in the calling thread's network namespace, where the kernel permits it.
    public static func lengthenQueue(of interface: String) {
        let index = unsafe if_nametoindex(interface)
        guard index > 0 else { return }
        do {
            var socket = try NetlinkSocket()
            try socket.setLink(
                InterfaceIndex(rawValue: index), LinkChange(transmitQueueLength: Self.queueLength))
        } catch {
            // A failure only costs speed.
            return
        }
    }

    /// The families of the calling thread's network namespace, whose kernel may lack IPv6 or have it switched off.
    public static func families() -> Set<AddressFamily> {
        let probe = Glibc.socket(AF_INET6, CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard probe >= 0 else { return [.v4] }
        close(probe)
        return Sysctl.read("/proc/sys/net/ipv6/conf/default/disable_ipv6") == "1" ? [.v4] : [.v4, .v6]
    }

    // MARK: Predecessor and successor

    /// From now on has it recorded what is ours.
    ///
    /// - Parameter record: called before objects are added, with them, and after each change.
    public mutating func record(by record: @escaping @Sendable (AppliedState.Ownership) -> Void) {
        self.record = record
    }

    /// Makes ours what a predecessor of this process had recorded and what still exists.
    ///
    /// - Parameter fingerprints: ``AppliedState/Ownership/fingerprints`` as recorded.
    /// - Throws: If the kernel does not answer.
    public mutating func adopt(_ fingerprints: Set<UInt64>) throws(NamespaceError) {
        ours = AppliedState.Ownership(fingerprints, in: try state())
        memory = AppliedRouteMemory()
    }

    /// Has it recorded what is ours, and what these operations will add to it.
    func recordOwnership(before operations: [NamespaceOperation] = []) {
        guard let record else { return }
        var future = ours
        for operation in operations where !operation.isRemoval { future.note(operation) }
        record(future)
    }

    // MARK: Operations

    /// Sets the sysctls of the interface as copying needs them.
    ///
    /// Router Advertisements are refused, so that the namespace has only what is copied, and secondary addresses
    /// outlive their primary. Where /proc/sys cannot be written, both keep their values and the operations work around
    /// them.
    public mutating func prepare() {
        _ = Sysctl.write("0", to: "/proc/sys/net/ipv6/conf/\(name)/accept_ra")
        promotesSecondaries = Sysctl.write("1", to: "/proc/sys/net/ipv4/conf/\(name)/promote_secondaries")
    }

    /// Carries out operations in order.
    ///
    /// - Parameters:
    ///   - operations: the operations, as `diff()` returned them.
    ///   - resetFlows: called for each ``NamespaceOperation/resetFlows(_:)``, before the address is removed.
    /// - Returns: The operations that failed.
    public mutating func apply(
        _ operations: [NamespaceOperation], resetFlows: (IPAddress) -> Void = { _ in }
    ) -> [OperationFailure] {
        var failures: [OperationFailure] = []
        var waiting: [NamespaceOperation] = []
        var rest = operations[...]
        recordOwnership(before: operations)
        defer { recordOwnership() }
        while let operation = rest.first {
            if case .resetFlows(let address) = operation {
                resetFlows(address)
                rest.removeFirst()
            } else {
                perform(&rest, &waiting, &failures)
            }
        }
        retry(waiting, &failures)
        return failures
    }

    /// Carries out the first operation, or all consecutive route changes at the beginning of the list, at once.
    ///
    /// An operation that may succeed later goes to the waiting ones.
    ///
    /// - Parameters:
    ///   - operations: the operations; those that were carried out are removed.
    ///   - waiting: receives the operations that may succeed later.
    ///   - failures: receives the operations that were refused for good.
    mutating func perform(
        _ operations: inout ArraySlice<NamespaceOperation>, _ waiting: inout [NamespaceOperation],
        _ failures: inout [OperationFailure]
    ) {
        func refused(_ operation: NamespaceOperation, _ error: NetlinkError) {
            if error.mayResolve { waiting.append(operation) } else { failures.append(.init(operation, "\(error)")) }
        }
        let run = operations.prefix { $0.routeChange != nil }
        guard run.count > 1 else {
            let operation = operations.removeFirst()
            do {
                if try carryOut(operation) { ours.note(operation) }
            } catch {
                refused(operation, error)
            }
            return
        }
        operations = operations.dropFirst(run.count)
        let errors = socket.changeRoutes(run.compactMap(\.routeChange), through: interface)
        for (position, operation) in run.enumerated() {
            guard let error = errors[position] else {
                ours.note(operation)
                continue
            }
            if !isAlreadyTrue(operation, error) { refused(operation, error) }
        }
    }

    /// Tries the waiting operations again, in passes, until a pass has no success.
    mutating func retry(_ operations: [NamespaceOperation], _ failures: inout [OperationFailure]) {
        var waiting = operations
        while !waiting.isEmpty {
            var refused: [NamespaceOperation] = []
            var reasons: [OperationFailure] = []
            for operation in waiting {
                do {
                    if try carryOut(operation) { ours.note(operation) }
                } catch {
                    refused.append(operation)
                    reasons.append(.init(operation, "\(error)"))
                }
            }
            guard refused.count < waiting.count else {
                failures += reasons
                return
            }
            waiting = refused
        }
    }

    /// Reads back the state, with what is ours marked.
    ///
    /// - Throws: If the interface is gone or the kernel does not answer.
    public mutating func state() throws(NamespaceError) -> AppliedState {
        let read: AppliedState?
        do {
            read = try socket.appliedState(
                of: interface, promotesSecondaries: promotesSecondaries, ownership: ours, memory: &memory)
        } catch {
            throw NamespaceError("cannot read the namespace's configuration: \(error)")
        }
        guard let state = read else { throw NamespaceError("interface '\(name)' is gone from the namespace") }
        return state
    }

    /// Our addresses that exist: as ``state()``, but without the routes, of which there may be many.
    ///
    /// - Throws: If the kernel does not answer.
    mutating func ourAddresses() throws(NamespaceError) -> Set<IPAddress> {
        var found: Set<IPAddress> = []
        do {
            for family in AddressFamily.allCases {
                for address in try socket.addresses(family, on: interface)
                where ours.addresses.contains(address.planned.identity) {
                    found.insert(address.address)
                }
            }
        } catch {
            throw NamespaceError("cannot read the namespace's addresses: \(error)")
        }
        return found
    }

    /// The state of an interface that was made a moment ago, without asking the kernel.
    public var initialState: AppliedState { AppliedState(promotesSecondaries: promotesSecondaries) }

    /// Carries out one operation; a refusal because the state is the wanted one already counts as success.
    ///
    /// - Returns: Whether we changed anything; an object that existed before is not ours.
    private mutating func carryOut(_ operation: NamespaceOperation) throws(NetlinkError) -> Bool {
        do throws(NetlinkError) {
            try request(operation)
            return true
        } catch {
            guard isAlreadyTrue(operation, error) else { throw error }
            return false
        }
    }

    /// Whether a refusal means that the state is the wanted one already, although we did not make it so.
    private mutating func isAlreadyTrue(_ operation: NamespaceOperation, _ error: NetlinkError) -> Bool {
        // Another program has changed the routes, so the owners of all routes are determined anew.
        memory = AppliedRouteMemory()
        switch operation {
        case .addAddress, .addRoute: return error.alreadyExists
        case .removeAddress, .removeRoute: return error.isAbsent
        default: return false
        }
    }

    private mutating func request(_ operation: NamespaceOperation) throws(NetlinkError) {
        switch operation {
        case .setMAC(let mac): try socket.setLink(interface, LinkChange(mac: mac))
        case .setMTU(let mtu): try socket.setLink(interface, LinkChange(mtu: mtu))
        case .setLinkUp: try setLinkUp(hasLinkLocal: true)
        case .setLinkUpBare: try setLinkUp(hasLinkLocal: false)
        case .setPromoteSecondaries:
            promotesSecondaries = Sysctl.write("1", to: "/proc/sys/net/ipv4/conf/\(name)/promote_secondaries")
        case .addAddress(let address):
            let lifetime: AddressLifetime = address.flags.contains(.deprecated) ? .deprecated : .infinite
            try socket.addAddress(interfaceAddress(address), .exclusive, lifetime: lifetime)
        case .deprecateAddress(let address):
            try socket.addAddress(interfaceAddress(address), .replacing, lifetime: .deprecated)
        case .restoreAddress(let address):
            try socket.addAddress(interfaceAddress(address), .replacing, lifetime: .infinite)
        case .addRoute(let route): try socket.addRoute(route, .exclusive, through: interface)
        case .replaceRoute(let route): try socket.addRoute(route, .replacing, through: interface)
        case .removeRoute(let route): try socket.deleteRoute(route, through: interface)
        case .removeAddress(let address): try socket.deleteAddress(interfaceAddress(address))
        case .resetFlows: break
        }
    }

    /// Sets the link up, with a link-local address that is usable at once or with none.
    private mutating func setLinkUp(hasLinkLocal: Bool) throws(NetlinkError) {
        let mac = try socket.link(interface)?.mac
        var isPrepared = false
        if mac != nil {
            do {
                try socket.setLink(interface, LinkChange(addressGeneration: AddressGeneration.none))
                isPrepared = true
            } catch {
                // The link has no IPv6, so it will have no link-local address either.
            }
        }
        try socket.setLink(interface, LinkChange(isUp: true))
        guard hasLinkLocal, isPrepared, let mac, let prefix = Prefix(.v6(.linkLocal(for: mac)), length: 64) else {
            return
        }
        do {
            try socket.addAddress(
                InterfaceAddress(
                    interface: interface, prefix: prefix, scope: .link, flags: .noDuplicateDetection), .exclusive)
        } catch {
            // IPv6 is switched off for this interface (disable_ipv6); the kernel would have added no address either.
        }
        try socket.setLink(interface, LinkChange(addressGeneration: .eui64))
    }

    /// IPv6 addresses skip duplicate detection, since we are the only other host on the link.
    private func interfaceAddress(_ address: PlannedAddress) -> InterfaceAddress {
        var value = InterfaceAddress(
            interface: interface, prefix: address.prefix, peer: address.peer, broadcast: address.broadcast,
            scope: address.scope, flags: address.flags)
        if address.family == .v6 { value.flags.insert(.noDuplicateDetection) }
        return value
    }
}

extension NamespaceOperation {
    /// Whether it removes an address or a route.
    fileprivate var isRemoval: Bool {
        switch self {
        case .removeAddress, .removeRoute: true
        default: false
        }
    }

    /// The operation as a change of the routing table; nil for other operations.
    fileprivate var routeChange: RouteChange? {
        switch self {
        case .addRoute(let route): .add(route)
        case .replaceRoute(let route): .replace(route)
        case .removeRoute(let route): .delete(route)
        default: nil
        }
    }
}

extension IPv6Address {
    /// The link-local address that the kernel makes of a hardware address (RFC 4291, appendix A: modified EUI-64).
    static func linkLocal(for mac: MACAddress) -> IPv6Address {
        let vendor = (mac.rawValue >> 24) ^ 0x02_0000
        let serial = mac.rawValue & 0xFF_FFFF
        return IPv6Address(high: 0xFE80_0000_0000_0000, low: vendor << 40 | 0xFFFE << 24 | serial)
    }
}
