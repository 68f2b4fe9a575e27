// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A value for each family.
public struct PerFamily<Value> {
    /// The IPv4 value.
    public var v4: Value
    /// The IPv6 value.
    public var v6: Value

    /// Makes a pair.
    public init(v4: Value, v6: Value) {
        self.v4 = v4
        self.v6 = v6
    }

    /// The value of a family.
    public subscript(family: AddressFamily) -> Value {
        get { family == .v4 ? v4 : v6 }
        set { if family == .v4 { v4 = newValue } else { v6 = newValue } }
    }
}

extension PerFamily: Sendable where Value: Sendable {}
extension PerFamily: Equatable where Value: Equatable {}
extension PerFamily: Hashable where Value: Hashable {}

/// The part of the user's request that decides the namespace's configuration and the translation.
///
/// Together with a ``HostSnapshot`` it is the input of `plan()`. tapas(1) describes the options named here.
public struct Configuration: Hashable, Sendable {
    /// `--map-host-loopback`, `--map-guest-addr`: the default, an address, or nothing.
    public enum Mapping: Hashable, Sendable {
        /// Not given.
        case `default`
        /// `none`.
        case none
        /// An address.
        case address(IPAddress)
    }

    /// Whether `--config-net` programs the namespace.
    public var configuresNamespace = false
    /// Families in use: `-4`, `-6` or both.
    public var families: Set<AddressFamily> = [.v4, .v6]
    /// `--mode`.
    public var networkMode = NetworkMode.auto
    /// `-a`, in the order given; ``sources(of:)`` are those of a family.
    public var addressSources: [AddressSource] = []
    /// Whether flows from the host go to the address that the guest uses, although `-a` gives another one.
    ///
    /// `--slirp` sets it, because its guest chooses its IPv6 address itself.
    public var learnsGuestAddress = false
    /// `-n`: the prefix length of `-a` addresses without a length; without `-a`, that of the template's guest address.
    public var prefixLengths = PerFamily<Int?>(v4: nil, v6: nil)
    /// `-g`.
    public var gateways = PerFamily<IPAddress?>(v4: nil, v6: nil)
    /// `-i`: the template interface of both families.
    public var templateInterface: String?
    /// `--outbound-if4`, `--outbound-if6`.
    public var outboundInterfaces = PerFamily<String?>(v4: nil, v6: nil)
    /// `-o`: the source address of host sockets.
    public var outboundAddresses = PerFamily<IPAddress?>(v4: nil, v6: nil)
    /// `-m` in bytes; nil for the kernel's MTU (`-m 0`).
    public var mtu: UInt32? = 65520
    /// Whether ``mtu`` was given; otherwise transparent mode uses the interface's.
    public var isMTUGiven = false
    /// Not `--strict-addresses`: the namespace may use addresses that no source gave.
    public var acceptsOtherAddresses = true
    /// `-M`: the MAC address of the gateway and of everything else on the link.
    public var gatewayMAC = MACAddress.defaultGateway
    /// `--ns-mac-addr`.
    public var namespaceMAC: MACAddress?
    /// `-I`: the name of the interface in the namespace.
    public var interfaceName: String?
    /// Not `--no-copy-routes`.
    public var copiesRoutes = true
    /// Not `--no-copy-addrs`.
    public var copiesAddresses = true
    /// `--no-map-gw`: the gateway's address is not the host's loopback.
    public var gatewayMapsToHost = true
    /// `--map-host-loopback`.
    public var hostLoopbackMappings = PerFamily<Mapping>(v4: .default, v6: .default)
    /// `--map-guest-addr`.
    public var guestAddressMappings = PerFamily<Mapping>(v4: .default, v6: .default)
    /// `--dns-forward`.
    public var dnsForward = PerFamily<IPAddress?>(v4: nil, v6: nil)
    /// `--dns-host`.
    public var dnsHost = PerFamily<IPAddress?>(v4: nil, v6: nil)
    /// `-D`: resolvers given; empty unless given.
    public var dnsServers: [IPAddress] = []
    /// `-D none`.
    public var suppressesDNS = false
    /// The services that are on; without those that options switch off.
    public var services: ServiceSettings.Services = .all
    /// `--dhcp-dns`: resolvers are announced.
    public var announcesResolvers = false
    /// `--dhcp-search`: the search list is announced.
    public var announcesSearchList = false
    /// `-S`: nil for that of resolv.conf, empty for none.
    public var searchDomains: [String]?
    /// `-H`.
    public var hostName: String?
    /// `--fqdn`.
    public var fullName: String?
    /// `--lease-time` in seconds; ``ServiceSettings/infinite`` for 0.
    public var leaseTime: UInt32 = 120
    /// The lease that busybox's udhcpc is given, in seconds: ``leaseTime`` where `--lease-time` is given.
    ///
    /// This client learns of a change only when its lease is renewed: it ignores the carrier, renews at half of the
    /// lease regardless of the renewal option, and waits 3 s after a refusal (docs/conveying.md).
    public var udhcpcLeaseTime: UInt32 = 90
    /// Not `--no-carrier-toggle`.
    public var togglesCarrier = true

    /// Makes the configuration of a bare `tapas` command line.
    public init() {}

    /// The greatest number of addresses of a family, and of values of `-a`.
    public static let mostAddresses = 64

    /// The sources of a family's addresses, in order.
    ///
    /// Explicit addresses of the other family do not count, and a link-local address is added to the others. If no
    /// other source is given for the family, its source is the template.
    public func sources(of family: AddressFamily) -> [AddressSource] {
        let given = addressSources.filter { source in
            if case .explicit(let address, _) = source { address.family == family } else { true }
        }
        return given.contains { $0 != .linkLocal } ? given : [.template] + given
    }

    /// The explicit addresses of a family, in order.
    public func explicitAddresses(of family: AddressFamily) -> [IPAddress] {
        sources(of: family).compactMap { if case .explicit(let address, _) = $0 { address } else { nil } }
    }

    /// Whether the family's addresses do not depend on the host.
    public func hasOwnAddressesOnly(_ family: AddressFamily) -> Bool {
        !sources(of: family).contains(where: \.followsHost)
    }

    /// The only interface that may be a family's template: that of `-i`, else of the family's `--outbound-if`; nil if
    /// any may.
    public var namedInterfaces: PerFamily<String?> {
        PerFamily(
            v4: templateInterface ?? outboundInterfaces.v4, v6: templateInterface ?? outboundInterfaces.v6)
    }
}
