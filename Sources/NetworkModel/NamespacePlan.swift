// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// How a family is configured; the mode is a result of planning, not a setting.
public enum FamilyMode: Hashable, Sendable, CustomStringConvertible {
    /// Not used: `-4`, `-6`, or the namespace's kernel has no such family.
    case off
    /// The user gave the address or the gateway; nothing of the host overrides them.
    case manual
    /// A host interface is copied.
    case template(InterfaceIndex, name: String)
    /// There is no usable host interface: link-local addresses are used.
    case local
    /// `--mode transparent`: a copy of this interface, even if it has no addresses.
    case transparent(name: String)
    /// `--mode opaque`: link-local addresses of our own, independent of the host.
    case opaque

    /// The mode's name in messages.
    public var description: String {
        switch self {
        case .off: "off"
        case .manual: "manual"
        case .template(_, let name): "template \(name)"
        case .local: "local"
        case .transparent(let name): "transparent \(name)"
        case .opaque: "opaque"
        }
    }
}

/// An address that the namespace's interface should have.
public struct PlannedAddress: Hashable, Sendable {
    /// The address with its prefix length.
    public var prefix: Prefix
    /// The other end of a point-to-point address.
    public var peer: IPAddress?
    /// The broadcast address, if one should be set.
    public var broadcast: IPv4Address?
    /// The scope.
    public var scope: RoutingScope
    /// The flags to set; IPv6 addresses always skip duplicate detection.
    public var flags: InterfaceAddress.Flags
    /// Which source gave it: never nil in a plan, always nil in what is read from a kernel.
    public var origin: AddressOrigin?

    /// Makes a planned address.
    public init(
        prefix: Prefix, peer: IPAddress? = nil, broadcast: IPv4Address? = nil, scope: RoutingScope = .universe,
        flags: InterfaceAddress.Flags = [], origin: AddressOrigin? = nil
    ) {
        self.prefix = prefix
        self.peer = peer
        self.broadcast = broadcast
        self.scope = scope
        self.flags = flags
        self.origin = origin
    }
}

/// The plan of one family.
public struct FamilyPlan: Hashable, Sendable {
    /// The mode.
    public var mode: FamilyMode
    /// The addresses, in the order to add them.
    public var addresses: [PlannedAddress]
    /// The routes, in an order in which each finds its gateway; next hops have no interface, which stands for the
    /// namespace's interface.
    public var routes: [Route]
    /// The address that DHCP, Router Advertisements and translation use.
    public var guestAddress: Prefix?
    /// The namespace's default router.
    public var gateway: IPAddress?
    /// The address that we use on the link.
    public var ownAddress: IPAddress?

    /// Makes a family's plan.
    public init(
        mode: FamilyMode, addresses: [PlannedAddress] = [], routes: [Route] = [], guestAddress: Prefix? = nil,
        gateway: IPAddress? = nil, ownAddress: IPAddress? = nil
    ) {
        self.mode = mode
        self.addresses = addresses
        self.routes = routes
        self.guestAddress = guestAddress
        self.gateway = gateway
        self.ownAddress = ownAddress
    }
}

/// The wanted state of the namespace and the translation of its traffic: the result of `plan()`.
public struct NamespacePlan: Hashable, Sendable {
    /// The interface's name, which is chosen at the first plan and never changes.
    public var interfaceName: String
    /// The MTU to set in bytes; nil for the kernel's.
    public var mtu: UInt32?
    /// The hardware address to set; nil for the kernel's.
    public var namespaceMAC: MACAddress?
    /// Whether the link has an IPv6 link-local address by its hardware address besides the planned addresses.
    public var hasKernelLinkLocal = true
    /// The families' plans.
    public var families: PerFamily<FamilyPlan>
    /// The rules for the data path.
    public var rules: TranslationRules
    /// What the built-in services announce to the namespace.
    public var services: ServiceSettings
    /// Why each choice was made.
    public var reasons: [Reason]
    /// Warnings for the user, each once, on standard error at start.
    public var warnings: [String]

    /// Makes a plan.
    public init(
        interfaceName: String, mtu: UInt32?, namespaceMAC: MACAddress?, families: PerFamily<FamilyPlan>,
        rules: TranslationRules, services: ServiceSettings = .init(), reasons: [Reason] = [], warnings: [String] = []
    ) {
        self.interfaceName = interfaceName
        self.mtu = mtu
        self.namespaceMAC = namespaceMAC
        self.families = families
        self.rules = rules
        self.services = services
        self.reasons = reasons
        self.warnings = warnings
    }
}
