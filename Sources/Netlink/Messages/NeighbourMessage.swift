// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
public import NetworkModel
public import NetworkTypes

/// An entry of the neighbour table (`struct ndmsg`, ip-neighbour(8)).
public struct Neighbour: Hashable, Sendable {
    /// What the kernel knows about the neighbour (`NUD_*`).
    public struct State: OptionSet, Hashable, Sendable {
        /// The kernel's bits.
        public let rawValue: UInt16

        /// Makes a set from the kernel's bits.
        public init(rawValue: UInt16) {
            self.rawValue = rawValue
        }

        /// Being resolved (`NUD_INCOMPLETE`).
        public static let incomplete = State(rawValue: UInt16(NUD_INCOMPLETE))
        /// Confirmed lately (`NUD_REACHABLE`).
        public static let reachable = State(rawValue: UInt16(NUD_REACHABLE))
        /// Not confirmed lately (`NUD_STALE`).
        public static let stale = State(rawValue: UInt16(NUD_STALE))
        /// To be probed soon (`NUD_DELAY`).
        public static let delay = State(rawValue: UInt16(NUD_DELAY))
        /// Being probed (`NUD_PROBE`).
        public static let probe = State(rawValue: UInt16(NUD_PROBE))
        /// Resolution failed (`NUD_FAILED`).
        public static let failed = State(rawValue: UInt16(NUD_FAILED))
        /// Set by hand (`NUD_PERMANENT`).
        public static let permanent = State(rawValue: UInt16(NUD_PERMANENT))
        /// The states in which the hardware address may be used (`NUD_VALID` without `NUD_NOARP`).
        public static let usable: State = [.reachable, .stale, .delay, .probe, .permanent]
    }

    /// The link.
    public var interface: InterfaceIndex
    /// The neighbour's address.
    public var address: IPAddress
    /// Its hardware address, once known.
    public var mac: MACAddress?
    /// What the kernel knows about it.
    public var state: State

    /// Makes an entry.
    public init(interface: InterfaceIndex, address: IPAddress, mac: MACAddress?, state: State) {
        self.interface = interface
        self.address = address
        self.mac = mac
        self.state = state
    }
}

/// `RTM_NEWNEIGH`, `RTM_DELNEIGH`, `RTM_GETNEIGH`: `struct ndmsg` and its attributes.
package enum NeighbourMessage {
    /// The length of `struct ndmsg`: family, padding, index, state, flags, type.
    package static let headerByteCount = 12

    /// The entry in a message; nil for other families and for entries without an address.
    package static func parse(_ payload: Span<UInt8>) -> Neighbour? {
        guard payload.count >= headerByteCount, let family = payload.byte(at: 0).flatMap(AddressFamily.init),
            let index = payload.uint32(at: 4), let state = payload.uint16(at: 8), index > 0
        else { return nil }
        var address: IPAddress?
        var mac: MACAddress?
        var walk = AttributeWalk(after: headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch attribute.type {
            case Int(NDA_DST): address = value.address(family)
            case Int(NDA_LLADDR): mac = value.mac()
            default: break
            }
        }
        return address.map {
            Neighbour(
                interface: InterfaceIndex(rawValue: index), address: $0, mac: mac,
                state: Neighbour.State(rawValue: state))
        }
    }

    /// The request for all entries of a family, of one link or of all.
    package static func dump(_ family: AddressFamily, interface: InterfaceIndex?) -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETNEIGH, flags: NLM_F_DUMP)
        writer.append(family.kernelNumber)
        for _ in 1..<headerByteCount { writer.append(UInt8(0)) }
        if let interface { writer.attribute(Int(NDA_IFINDEX), interface.rawValue) }
        return writer
    }
}
