// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Flows as those see them who ask for them: values, made a bounded number at a time.

public import LinuxSystem
public import NetworkTypes
internal import Wire

/// The protocol of a flow, as it is named to people and programs.
public enum FlowProtocol: String, Hashable, Sendable, CaseIterable {
    /// TCP.
    case tcp
    /// UDP.
    case udp
    /// ICMP and ICMPv6 echo.
    case icmp

    init(_ transport: IPProtocol) {
        switch transport {
        case .tcp: self = .tcp
        case .udp: self = .udp
        default: self = .icmp
        }
    }
}

/// What a flow is at, as it is named to people and programs.
public enum FlowState: String, Hashable, Sendable, CaseIterable {
    /// The host's socket is connecting.
    case connecting
    /// The namespace's part of the handshake is awaited.
    case handshake
    /// Data may go both ways.
    case established
    /// One side has ended, or both have.
    case closing
    /// Datagrams, none of which has been answered.
    case unanswered
    /// Datagrams both ways.
    case answered
}

/// A flow at the moment it was looked at.
public struct FlowRecord: Hashable, Sendable {
    /// Its protocol.
    public var transport: FlowProtocol
    /// The namespace's address and port; the port of echo is its identifier.
    public var guest: Endpoint
    /// The other end, as the namespace knows it.
    public var remote: Endpoint
    /// The address of the host's socket; nil if it is not known yet, or the socket has none.
    public var hostAddress: IPAddress?
    /// The port of the host's socket; nil if it was not asked for, or the socket has none.
    public var hostPort: UInt16?
    /// The interface that the host's socket is bound to; nil if it was not asked for, or there is none.
    public var hostInterface: String?
    /// What it is at.
    public var state: FlowState
    /// Whether it was opened on the host, by a forwarded port.
    public var isInbound: Bool
    /// Whether it leads to the host's resolvers in place of its remote end.
    public var isForResolvers: Bool
    /// How long it has existed, in nanoseconds.
    public var age: Int64
    /// How long nothing has come from the namespace, or no datagram either way, in nanoseconds.
    public var idle: Int64
    /// Frames from the namespace; a super-frame is one.
    public var framesFromGuest: UInt64
    /// Frames to the namespace.
    public var framesToGuest: UInt64
    /// Bytes of payload from the namespace.
    public var bytesFromGuest: UInt64
    /// Bytes of payload to the namespace, repeated ones included.
    public var bytesToGuest: UInt64
    /// The round-trip time of the host's connection in microseconds, where it was asked for and is known.
    public var roundTrip: UInt32?
}

/// Which flows are meant: those that all the given conditions hold for.
public struct FlowFilter: Hashable, Sendable {
    /// The protocols; all if empty.
    public var transports: Set<FlowProtocol> = []
    /// The states; all if empty.
    public var states: Set<FlowState> = []
    /// The namespace's address.
    public var guestAddress: IPAddress?
    /// The namespace's port.
    public var guestPort: UInt16?
    /// The other end's address, as the namespace knows it.
    public var remoteAddress: IPAddress?
    /// The other end's port.
    public var remotePort: UInt16?
    /// The address of the host's socket.
    public var hostAddress: IPAddress?
    /// The port of the host's socket.
    public var hostPort: UInt16?
    /// The interface that the host's socket is bound to.
    public var hostInterface: String?

    /// Makes a filter that all flows pass.
    public init() {}

    /// Whether a condition is about what only the kernel knows.
    var asksKernel: Bool { hostPort != nil || hostInterface != nil }

    /// Whether no condition is given.
    public var isEmpty: Bool { self == FlowFilter() }

    /// Whether all conditions hold for a flow.
    func admits(_ flow: Flow) -> Bool {
        let key = flow.key
        if !transports.isEmpty, !transports.contains(FlowProtocol(key.transport)) { return false }
        if !states.isEmpty, !states.contains(FlowState(of: flow)) { return false }
        if let guestPort, guestPort != key.guestPort { return false }
        if let remotePort, remotePort != key.remotePort { return false }
        if let guestAddress, guestAddress.asIPv6 != key.guest { return false }
        if let remoteAddress, remoteAddress.asIPv6 != key.remote { return false }
        if let hostAddress, hostAddress.asIPv6 != flow.local { return false }
        // What only the kernel knows, last.
        if let hostPort, hostPort != HostSocket.localEndpoint(flow.socket)?.port { return false }
        if let hostInterface, hostInterface != HostSocket.device(of: flow.socket) { return false }
        return true
    }
}

extension FlowState {
    /// The state of a flow that exists.
    init(of flow: Flow) {
        switch flow.state {
        case .free, .connecting: self = .connecting
        case .synReceived, .synSent: self = .handshake
        case .established:
            self = flow.flags.isDisjoint(with: [.guestFinished, .hostFinished]) ? .established : .closing
        case .datagram:
            let hasBoth = flow.framesFromGuest > 0 && flow.framesToGuest > 0
            self = hasBoth ? .answered : .unanswered
        }
    }
}

/// Some of the flows, and where to go on.
public struct FlowSlice: Sendable {
    /// The flows.
    public var flows: [FlowRecord]
    /// What to ask for next; nil if that was all.
    public var next: Int?
}

extension Forwarder {
    /// Slots of the flow table that are looked at in one call: about a tenth of a millisecond.
    public static let slotsPerSlice = 1024
    /// As ``slotsPerSlice``, where each flow's socket is asked for what only the kernel knows.
    public static let slotsPerDetailedSlice = 128

    /// Some of the flows that exist.
    ///
    /// One call looks at a bounded number of slots, so that the data path serves others between two calls. Flows that
    /// begin or end between two calls may be missing; none is there twice.
    ///
    /// - Parameters:
    ///   - start: where to begin: 0, then what the last slice says.
    ///   - filter: which flows are meant.
    ///   - isDetailed: whether what only the kernel knows is wanted, too: a few system calls for each flow.
    /// - Returns: the flows of this slice.
    public func flows(
        from start: Int, matching filter: FlowFilter = FlowFilter(), isDetailed: Bool = false
    ) -> FlowSlice {
        withPath { path in
            let slots = isDetailed || filter.asksKernel ? Self.slotsPerDetailedSlice : Self.slotsPerSlice
            let end = min(max(start, 0) + slots, path.table.end)
            var slice = FlowSlice(flows: [], next: end < path.table.end ? end : nil)
            let now = MonotonicTime.now.nanoseconds
            for index in max(start, 0)..<max(end, start, 0) where path.table[index].state != .free {
                guard filter.admits(path.table[index]) else { continue }
                slice.flows.append(FlowRecord(path.table[index], now: now, isDetailed: isDetailed))
            }
            return slice
        }
    }

    /// Ends flows on both sides: connections by a reset.
    ///
    /// - Parameters:
    ///   - start: where to begin: 0, then what the last call has returned.
    ///   - filter: which flows are meant.
    /// - Returns: how many there were among those looked at, and what to ask for next; nil if that was all.
    public func endFlows(from start: Int, matching filter: FlowFilter) -> (count: Int, next: Int?) {
        withPath { path in
            path.now = .now
            path.flushGathered()
            let end = min(max(start, 0) + Self.slotsPerDetailedSlice, path.table.end)
            var count = 0
            for index in max(start, 0)..<max(end, start, 0)
            where path.table[index].state != .free && filter.admits(path.table[index]) {
                count += 1
                if path.table[index].key.transport == .tcp {
                    path.carryOut(path.table[index].givenUp(), for: index)
                } else {
                    path.closeFlow(index)
                }
            }
            return (count, end < path.table.end ? end : nil)
        }
    }
}

extension FlowRecord {
    init(_ flow: Flow, now: Int64, isDetailed: Bool) {
        let key = flow.key
        transport = FlowProtocol(key.transport)
        guest = Endpoint(address: key.guest, port: key.guestPort)
        remote = Endpoint(address: key.remote, port: key.remotePort)
        hostAddress = flow.local.isUnspecified ? nil : IPAddress(unmapping: flow.local)
        state = FlowState(of: flow)
        isInbound = flow.flags.contains(.inbound)
        isForResolvers = flow.flags.contains(.dns)
        age = max(now - flow.opened, 0)
        idle = max(now - flow.activity, 0)
        framesFromGuest = flow.framesFromGuest
        framesToGuest = flow.framesToGuest
        bytesFromGuest = flow.bytesFromGuest
        bytesToGuest = flow.bytesToGuest
        let isConnected = key.transport == .tcp && flow.state != .connecting && flow.socket >= 0
        roundTrip = isDetailed && isConnected ? HostSocket.roundTripTime(flow.socket) : nil
        guard isDetailed, flow.socket >= 0 else { return }
        if let local = HostSocket.localEndpoint(flow.socket) {
            hostPort = local.port
            if hostAddress == nil, !local.address.isUnspecified { hostAddress = IPAddress(unmapping: local.address) }
        }
        hostInterface = HostSocket.device(of: flow.socket)
    }
}
