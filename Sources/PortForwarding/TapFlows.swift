// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkTypes

/// A connection that was accepted on a forwarded port and goes to the namespace through the tap.
public struct ForwardedConnection: Sendable {
    /// The accepted socket; the receiver of this value owns it.
    public var socket: CInt
    /// The client.
    public var peer: Endpoint
    /// The port in the namespace.
    public var port: UInt16
    /// The address in the namespace that the rule names; nil for the namespace's own.
    public var address: IPAddress?
}

/// A datagram that has arrived at a forwarded port and goes to the namespace through the tap.
public struct ForwardedDatagram: Sendable {
    /// The datagram, with its client and its destination.
    public var datagram: ReceivedDatagram
    /// A socket that is bound to the datagram's destination and connected to its client.
    ///
    /// It is nil if the flow has one already. The receiver of this value owns it.
    public var socket: CInt?
    /// The port in the namespace.
    public var port: UInt16
    /// The address in the namespace that the rule names; nil for the namespace's own.
    public var address: IPAddress?
}

/// What has arrived at forwarded ports within one turn of their loop, in the order of arrival.
public struct Arrivals: Sendable {
    /// Accepted connections.
    public var connections: [ForwardedConnection] = []
    /// Datagrams.
    public var datagrams: [ForwardedDatagram] = []

    var isEmpty: Bool { connections.isEmpty && datagrams.isEmpty }
}

/// The addresses of the namespace to which spliced connections go.
public struct SpliceTargets: Equatable, Sendable {
    /// The IPv4 address, in mapped form.
    public var v4: IPv6Address?
    /// The IPv6 address that is not link-local.
    public var v6: IPv6Address?

    /// Makes a pair of addresses.
    public init(v4: IPv6Address? = nil, v6: IPv6Address? = nil) {
        self.v4 = v4
        self.v6 = v6
    }

    /// The address for a client of a family: of the same family if the namespace has one, else of the other.
    func target(isIPv4: Bool) -> IPv6Address? { isIPv4 ? v4 ?? v6 : v6 ?? v4 }
}

/// The data path, as the forwarded ports see it.
///
/// The ports' thread makes the calls, which return at once.
public protocol TapFlows: Sendable {
    /// Starts flows for connections, and passes datagrams to their flows.
    ///
    /// Misdirected datagrams, and datagrams whose flow has ended, come back through
    /// ``ForwardedPorts/takeBack(_:hasFlow:)``.
    func take(_ arrivals: consuming Arrivals)
    /// Ends the flow that has been idle for longest, so that a descriptor becomes free; then calls `completion`, on any
    /// thread.
    func makeRoom(_ completion: @escaping @Sendable () -> Void)
    /// The addresses to which spliced connections go at present.
    var spliceTargets: SpliceTargets { get }
}
