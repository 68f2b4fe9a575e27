// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Descriptions of flows for the control socket: values, of which a bounded number is made at a time.

public import LinuxSystem
public import NetworkTypes
internal import Wire

/// The protocol of a flow, with its name in the control protocol.
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

/// The state of a flow, with its name in the control protocol.
public enum FlowState: String, Hashable, Sendable, CaseIterable {
    /// The host's socket is connecting.
    case connecting
    /// The host's side is connected; the namespace has not completed the handshake.
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

/// A flow at the moment of the query.
public struct FlowRecord: Hashable, Sendable {
    /// Its protocol.
    public var transport: FlowProtocol
    /// The namespace's address and port; the port of echo is its identifier.
    public var guest: Endpoint
    /// The other end, as the namespace knows it.
    public var remote: Endpoint
    /// The address of the host's socket; nil if the socket has none or it is unknown.
    public var hostAddress: IPAddress?
    /// The port of the host's socket; nil if the query did not include it, or the socket has none.
    public var hostPort: UInt16?
    /// The interface that the host's socket is bound to; nil if the query did not include it, or there is none.
    public var hostInterface: String?
    /// Its state.
    public var state: FlowState
    /// Whether it was opened on the host, by a forwarded port.
    public var isInbound: Bool
    /// Whether it goes to the host's resolvers instead of its remote end.
    public var isForResolvers: Bool
    /// How long it has existed, in nanoseconds.
    public var age: Int64
    /// The time since the last segment from the namespace, or the last datagram in either direction, in nanoseconds.
    public var idle: Int64
    /// Frames from the namespace; a super-frame is one.
    public var framesFromGuest: UInt64
    /// Frames to the namespace.
    public var framesToGuest: UInt64
    /// Bytes of payload from the namespace.
    public var bytesFromGuest: UInt64
    /// Bytes of payload to the namespace, repeated ones included.
    public var bytesToGuest: UInt64
    /// The round-trip time of the host's connection in microseconds; nil if the query did not include it or it is
    /// unknown.
    public var roundTrip: UInt32?
}

/// Selects the flows that meet all the given conditions.
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

    /// Makes a filter that selects all flows.
    public init() {}

    /// Whether a condition needs a system call.
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
        // The conditions that need a system call come last.
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

/// Some of the flows, and the position of the next ones.
public struct FlowSlice: Sendable {
    /// The flows.
    public var flows: [FlowRecord]
    /// The start of the next slice; nil if this was the last one.
    public var next: Int?
}

extension Forwarder {
    /// The number of slots of the flow table that one call examines: about a tenth of a millisecond.
    public static let slotsPerSlice = 1024
    /// As ``slotsPerSlice``, if each flow needs system calls.
    public static let slotsPerDetailedSlice = 128

    /// Returns a slice of the flows.
    ///
    /// One call examines a bounded number of slots, so that the data path can handle traffic between two calls. Flows
    /// that begin or end between two calls may be missing; no flow appears twice.
    ///
    /// - Parameters:
    ///   - start: 0, then ``FlowSlice/next`` of the last slice.
    ///   - filter: selects the flows.
    ///   - isDetailed: whether to include what only the kernel knows, with a few system calls for each flow.
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
    ///   - start: 0, then the position that the last call returned.
    ///   - filter: selects the flows.
    /// - Returns: the number of flows that were ended, and the position of the next call; nil if this was the last one.
    public func endFlows(from start: Int, matching filter: FlowFilter) -> (count: Int, next: Int?) {
        withPath { path in
            path.now = .now
            path.flushGathered()
            path.ending = .killed
            defer { path.ending = nil }
            let end = min(max(start, 0) + Self.slotsPerDetailedSlice, path.table.end)
            var count = 0
            for index in max(start, 0)..<max(end, start, 0)
            where path.table[index].state != .free && filter.admits(path.table[index]) {
                count += 1
                if path.table[index].key.transport == .tcp {
                    path.carryOut(path.table[index].abandoned(), for: index)
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
