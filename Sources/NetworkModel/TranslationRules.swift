// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// How addresses are translated between the namespace and the host's sockets.
///
/// The value is published to the data path, which evaluates it for each new flow and never for an existing one.
public struct TranslationRules: Hashable, Sendable {
    /// The rules of one family.
    public struct Family: Hashable, Sendable {
        /// Whether the family is in use.
        public var isEnabled: Bool
        /// Whether the host has a network of the family, by which the namespace's packets leave: not in local mode.
        public var leavesHost = false
        /// The namespace's address, to which inbound flows go until another source address is seen.
        public var guestAddress: IPAddress?
        /// Every address that the plan gives the namespace; a client on the host with one of them gets a stand-in
        /// address.
        public var guestAddresses: Set<IPAddress> = []
        /// Prefixes in which the namespace may make its own addresses, as Router Advertisements allow.
        public var guestPrefixes: [Prefix] = []
        /// Addresses of the host, of the gateway and of tapas that the plan does not give the namespace: packets from them
        /// are dropped.
        public var foreignAddresses: Set<IPAddress> = []
        /// Whether inbound flows go to the namespace's observed source address instead of ``guestAddress``.
        public var learnsGuestAddress: Bool
        /// The address that we use on the link: the gateway (IPv4), a link-local address (IPv6).
        public var ownAddress: IPAddress?
        /// The gateway as the namespace knows it.
        public var gateway: IPAddress?
        /// The destination that means the host's loopback (`--map-host-loopback`).
        public var hostLoopback: IPAddress?
        /// Whether ``hostLoopback`` is the address of a resolver of the host, too: its DNS ports are then the resolver's.
        public var hostLoopbackIsResolver = false
        /// The destination that means the host's own address (`--map-guest-addr`).
        public var mappedGuestAddress: IPAddress?
        /// The host's own address, for ``mappedGuestAddress``: resolved for each new flow.
        public var hostAddress: IPAddress?
        /// The destination whose DNS ports are forwarded (`--dns-forward`).
        public var dnsForward: IPAddress?
        /// The source address of host sockets (`-o`).
        public var outboundAddress: IPAddress?
        /// The device host sockets are bound to (`--outbound-if4`, `--outbound-if6`).
        public var outboundInterface: String?
        /// The scope of link-local destinations on the host: the template interface.
        public var linkLocalScope: InterfaceIndex?

        /// Makes the rules of a family that is not in use.
        public init() {
            isEnabled = false
            learnsGuestAddress = false
        }
    }

    /// The families' rules.
    public var families: PerFamily<Family>
    /// The servers that DNS queries are forwarded to, in order; empty means SERVFAIL.
    public var dnsServers: [ResolverConfiguration.Server]
    /// The hardware address that stands for the gateway and everything else on the link.
    public var gatewayMAC: MACAddress
    /// The MTU that is announced to the namespace; nil for none.
    public var mtu: UInt32?
    /// Whether the namespace may use addresses that no source gave (not `--strict-addresses`).
    public var acceptsOtherAddresses = true
    /// Whether the tap has a carrier: in transparent mode that of the interface.
    public var hasCarrier = true
    /// All addresses that the host has on its links.
    public var hostAddresses: Set<IPAddress> = []
    /// The device that sockets to resolvers are bound to, unless one of these is on the host's loopback.
    public var resolverInterface: String?

    /// Makes rules with both families off.
    public init() {
        families = .init(v4: .init(), v6: .init())
        dnsServers = []
        gatewayMAC = .defaultGateway
    }
}
