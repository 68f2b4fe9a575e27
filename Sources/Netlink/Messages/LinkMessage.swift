// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
package import NetworkModel
public import NetworkTypes

/// How the kernel makes IPv6 link-local addresses on a link (`IFLA_INET6_ADDR_GEN_MODE`, ip-link(8) `addrgenmode`).
public enum AddressGeneration: UInt8, Hashable, Sendable {
    /// From the hardware address (`IN6_ADDR_GEN_MODE_EUI64`).
    case eui64 = 0
    /// Not at all (`IN6_ADDR_GEN_MODE_NONE`).
    case none = 1
    /// Stable and private, RFC 7217 (`IN6_ADDR_GEN_MODE_STABLE_PRIVACY`).
    case stablePrivacy = 2
    /// As `stablePrivacy`, with a secret made now (`IN6_ADDR_GEN_MODE_RANDOM`).
    case random = 3
}

/// A change of a link; properties that are nil stay as they are.
public struct LinkChange: Hashable, Sendable {
    /// Administratively up or down (`IFF_UP`).
    public var isUp: Bool?
    /// Whether the link works without ARP and neighbour discovery (`IFF_NOARP`).
    public var isWithoutARP: Bool?
    /// The MTU in bytes.
    public var mtu: UInt32?
    /// The hardware address.
    public var mac: MACAddress?
    /// The name, at most 15 bytes.
    public var name: String?
    /// The length of the transmit queue in packets.
    public var transmitQueueLength: UInt32?
    /// How IPv6 link-local addresses are made.
    public var addressGeneration: AddressGeneration?

    /// Makes a change.
    public init(
        isUp: Bool? = nil, isWithoutARP: Bool? = nil, mtu: UInt32? = nil, mac: MACAddress? = nil, name: String? = nil,
        transmitQueueLength: UInt32? = nil, addressGeneration: AddressGeneration? = nil
    ) {
        self.isUp = isUp
        self.isWithoutARP = isWithoutARP
        self.mtu = mtu
        self.mac = mac
        self.name = name
        self.transmitQueueLength = transmitQueueLength
        self.addressGeneration = addressGeneration
    }
}

/// `RTM_NEWLINK`, `RTM_DELLINK`, `RTM_GETLINK`: `struct ifinfomsg` and its attributes.
package enum LinkMessage {
    /// The length of `struct ifinfomsg`: family, padding, type, index, flags, change.
    package static let headerByteCount = 16

    /// The link in a message; nil if it has no index or no name.
    package static func parse(_ payload: Span<UInt8>) -> Link? {
        guard let kind = payload.uint16(at: 2), let index = payload.uint32(at: 4), let flags = payload.uint32(at: 8),
            payload.count >= headerByteCount, index > 0
        else { return nil }
        var link = Link(
            index: InterfaceIndex(rawValue: index), name: "", flags: Link.Flags(rawValue: flags), mtu: 0)
        var walk = AttributeWalk(after: headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch attribute.type {
            case Int(IFLA_IFNAME): link.name = value.text()
            case Int(IFLA_MTU): link.mtu = value.uint32() ?? 0
            case Int(IFLA_ADDRESS) where Int32(kind) == ARPHRD_ETHER: link.mac = value.mac()
            case Int(IFLA_MASTER): link.master = value.uint32().map { InterfaceIndex(rawValue: $0) }
            default: break
            }
        }
        return link.name.isEmpty ? nil : link
    }

    /// The request for one link, or for all of them, without statistics.
    package static func get(_ index: InterfaceIndex?) -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETLINK, flags: index == nil ? NLM_F_DUMP : NLM_F_ACK)
        header(&writer, index: index?.rawValue ?? 0, flags: 0, change: 0)
        writer.attribute(Int(IFLA_EXT_MASK), UInt32(TAPAS_RTEXT_FILTER_SKIP_STATS))
        return writer
    }

    /// The request to change a link; it changes only the flag bits that are named.
    package static func change(_ index: InterfaceIndex, _ change: LinkChange) -> MessageWriter {
        var writer = MessageWriter(type: RTM_NEWLINK, flags: NLM_F_ACK)
        var flags: Link.Flags = []
        var mask: Link.Flags = []
        for (wanted, bit) in [(change.isUp, Link.Flags.up), (change.isWithoutARP, .noARP)] {
            guard let wanted else { continue }
            mask.insert(bit)
            if wanted { flags.insert(bit) }
        }
        header(&writer, index: index.rawValue, flags: flags.rawValue, change: mask.rawValue)
        if let mac = change.mac {
            writer.attribute(Int(IFLA_ADDRESS), (0..<6).map { mac.bytes[$0] })
        }
        if let mtu = change.mtu { writer.attribute(Int(IFLA_MTU), mtu) }
        if let name = change.name { writer.attribute(Int(IFLA_IFNAME), text: name) }
        if let length = change.transmitQueueLength { writer.attribute(Int(IFLA_TXQLEN), length) }
        if let mode = change.addressGeneration {
            writer.attribute(Int(IFLA_AF_SPEC)) { families in
                families.attribute(Int(AddressFamily.v6.kernelNumber)) {
                    $0.attribute(Int(IFLA_INET6_ADDR_GEN_MODE), mode.rawValue)
                }
            }
        }
        return writer
    }

    private static func header(_ writer: inout MessageWriter, index: UInt32, flags: UInt32, change: UInt32) {
        writer.append(UInt16(0))
        writer.append(UInt16(0))
        writer.append(index)
        writer.append(flags)
        writer.append(change)
    }
}
