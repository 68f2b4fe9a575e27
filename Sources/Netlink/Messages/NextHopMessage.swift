// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
package import NetworkModel
internal import NetworkTypes

/// `RTM_NEWNEXTHOP`, `RTM_GETNEXTHOP`: `struct nhmsg` and its attributes.
package enum NextHopMessage {
    /// The length of `struct nhmsg`: family, scope, protocol, reserved, flags.
    package static let headerByteCount = 8

    /// The nexthop object in a message; nil if it has no identifier.
    package static func parse(_ payload: Span<UInt8>) -> NextHopObject? {
        guard payload.count >= headerByteCount, let familyNumber = payload.byte(at: 0),
            let flags = payload.uint32(at: 4)
        else { return nil }
        let family = AddressFamily(kernelNumber: familyNumber)
        let known: NextHop.Flags = [.dead, .onLink, .linkDown]
        var id: UInt32?
        var hop = NextHop(
            interface: nil, flags: NextHop.Flags(rawValue: UInt8(truncatingIfNeeded: flags)).intersection(known))
        var group: [(id: UInt32, weight: Int)] = []
        var isBlackhole = false
        var walk = AttributeWalk(after: headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch attribute.type {
            case Int(NHA_ID): id = value.uint32()
            case Int(NHA_OIF): hop.interface = value.uint32().map { InterfaceIndex(rawValue: $0) }
            case Int(NHA_GATEWAY): hop.gateway = family.flatMap { value.address($0) }
            case Int(NHA_GROUP): group = members(value)
            case Int(NHA_BLACKHOLE): isBlackhole = true
            default: break
            }
        }
        guard let id else { return nil }
        let hasHop = hop.interface != nil && !isBlackhole
        return NextHopObject(id: id, hop: hasHop ? hop : nil, group: group, isBlackhole: isBlackhole)
    }

    /// `struct nexthop_grp`: identifier, low and high byte of the weight - 1, reserved.
    private static func members(_ value: Span<UInt8>) -> [(id: UInt32, weight: Int)] {
        let entryByteCount = 8
        return stride(from: 0, to: value.count - value.count % entryByteCount, by: entryByteCount).compactMap { start in
            guard let id = value.uint32(at: start), let low = value.byte(at: start + 4),
                let high = value.byte(at: start + 5)
            else { return nil }
            return (id, (Int(high) << 8 | Int(low)) + 1)
        }
    }

    /// The request for all nexthop objects.
    package static func dump() -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETNEXTHOP, flags: NLM_F_DUMP)
        for _ in 0..<headerByteCount { writer.append(UInt8(0)) }
        return writer
    }
}
