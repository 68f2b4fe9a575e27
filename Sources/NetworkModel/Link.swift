// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// A kernel interface index (`ifindex`), which identifies a link; names are for people.
public struct InterfaceIndex: RawRepresentable, Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The number; always positive for a real link.
    public var rawValue: UInt32

    /// Makes an index from its number.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// The index of `lo`, the same in each namespace.
    public static let loopback = InterfaceIndex(rawValue: 1)

    /// The decimal number.
    public var description: String { String(rawValue) }

    /// Orders by number.
    public static func < (a: InterfaceIndex, b: InterfaceIndex) -> Bool { a.rawValue < b.rawValue }
}

/// A network interface (`struct ifinfomsg`, rtnetlink(7)).
public struct Link: Hashable, Sendable {
    /// Link flags (`ifi_flags`, netdevice(7)).
    public struct Flags: OptionSet, Hashable, Sendable {
        /// The kernel's bits.
        public let rawValue: UInt32

        /// Makes a set from the kernel's bits.
        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// Administratively up (`IFF_UP`).
        public static let up = Flags(rawValue: 0x1)
        /// A loopback device (`IFF_LOOPBACK`).
        public static let loopback = Flags(rawValue: 0x8)
        /// A point-to-point link (`IFF_POINTOPOINT`).
        public static let pointToPoint = Flags(rawValue: 0x10)
        /// No ARP or neighbour discovery (`IFF_NOARP`).
        public static let noARP = Flags(rawValue: 0x80)
        /// Operational: carrier present and not dormant (`IFF_RUNNING`).
        public static let running = Flags(rawValue: 0x40)
        /// Carrier present (`IFF_LOWER_UP`).
        public static let lowerUp = Flags(rawValue: 0x10000)
    }

    /// The index.
    public var index: InterfaceIndex
    /// The name, at most 15 bytes.
    public var name: String
    /// The flags.
    public var flags: Flags
    /// The MTU in bytes.
    public var mtu: UInt32
    /// The hardware address, if it is an Ethernet one.
    public var mac: MACAddress?
    /// The bridge, bond or VRF that the link is a port of (`IFLA_MASTER`).
    public var master: InterfaceIndex?

    /// Makes a link.
    public init(
        index: InterfaceIndex, name: String, flags: Flags, mtu: UInt32, mac: MACAddress? = nil,
        master: InterfaceIndex? = nil
    ) {
        self.index = index
        self.name = name
        self.flags = flags
        self.mtu = mtu
        self.mac = mac
        self.master = master
    }

    /// Whether the link can carry traffic now: administratively up, with carrier.
    public var hasCarrier: Bool { flags.isSuperset(of: [.up, .lowerUp]) }
}
