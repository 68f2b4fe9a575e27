// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
package import NetworkModel
package import NetworkTypes

/// What an addition does if the object exists already.
public enum NetlinkAddition: Hashable, Sendable {
    /// It fails with EEXIST (`NLM_F_CREATE`, `NLM_F_EXCL`).
    case exclusive
    /// It takes the place of what is there (`NLM_F_CREATE`, `NLM_F_REPLACE`).
    case replacing

    /// The request's flags.
    var flags: Int32 {
        switch self {
        case .exclusive: NLM_F_CREATE | NLM_F_EXCL
        case .replacing: NLM_F_CREATE | NLM_F_REPLACE
        }
    }
}

/// `RTM_NEWADDR`, `RTM_DELADDR`, `RTM_GETADDR`: `struct ifaddrmsg` and its attributes.
package enum AddressMessage {
    /// The length of `struct ifaddrmsg`: family, prefix length, flags, scope, index.
    package static let headerByteCount = 8

    /// The flags that a request may contain; the kernel sets the others.
    package static let settableFlags: InterfaceAddress.Flags = [
        .noDuplicateDetection, .optimistic, .home, .manageTemporary, .noPrefixRoute, .multicastAutoJoin,
    ]

    /// The address in a message; nil for other families and for messages without an address.
    package static func parse(_ payload: Span<UInt8>) -> InterfaceAddress? {
        guard payload.count >= headerByteCount, let family = payload.byte(at: 0).flatMap(AddressFamily.init),
            let length = payload.byte(at: 1), let flags = payload.byte(at: 2), let scope = payload.byte(at: 3),
            let index = payload.uint32(at: 4), index > 0
        else { return nil }
        var local: IPAddress?
        var address: IPAddress?
        var broadcast: IPAddress?
        var allFlags = UInt32(flags)
        var walk = AttributeWalk(after: headerByteCount)
        while let attribute = walk.next(in: payload) {
            let value = payload.extracting(attribute.payload)
            switch attribute.type {
            case Int(IFA_LOCAL): local = value.address(family)
            case Int(IFA_ADDRESS): address = value.address(family)
            case Int(IFA_BROADCAST): broadcast = value.address(family)
            case Int(IFA_FLAGS): allFlags = value.uint32() ?? allFlags
            default: break
            }
        }
        guard let own = local ?? address, let prefix = Prefix(own, length: Int(length)) else { return nil }
        return InterfaceAddress(
            interface: InterfaceIndex(rawValue: index), prefix: prefix, peer: address == own ? nil : address,
            broadcast: broadcast?.v4, scope: RoutingScope(rawValue: scope),
            flags: InterfaceAddress.Flags(rawValue: allFlags))
    }

    /// The request for all addresses of a family, of one link or of all.
    package static func dump(_ family: AddressFamily, interface: InterfaceIndex?) -> MessageWriter {
        var writer = MessageWriter(type: RTM_GETADDR, flags: NLM_F_DUMP)
        header(&writer, family: family, length: 0, scope: .universe, index: interface?.rawValue ?? 0)
        return writer
    }

    /// The request to add an address; a deprecated address gets a preferred lifetime of 0 unless a lifetime is given.
    package static func add(
        _ address: InterfaceAddress, _ addition: NetlinkAddition, lifetime: AddressLifetime?
    ) -> MessageWriter {
        var writer = MessageWriter(type: RTM_NEWADDR, flags: addition.flags | NLM_F_ACK)
        body(&writer, address)
        if let broadcast = address.broadcast {
            writer.attribute(Int(IFA_BROADCAST), IPAddress.v4(broadcast))
        }
        let flags = address.flags.intersection(settableFlags)
        if !flags.isEmpty { writer.attribute(Int(IFA_FLAGS), flags.rawValue) }
        if let lifetime = lifetime ?? (address.flags.contains(.deprecated) ? .deprecated : nil) {
            writer.attribute(Int(IFA_CACHEINFO)) {
                $0.append(lifetime.preferred ?? .max)
                $0.append(lifetime.valid ?? .max)
                $0.append(UInt32(0))
                $0.append(UInt32(0))
            }
        }
        return writer
    }

    /// The request to delete an address.
    package static func delete(_ address: InterfaceAddress) -> MessageWriter {
        var writer = MessageWriter(type: RTM_DELADDR, flags: NLM_F_ACK)
        body(&writer, address)
        return writer
    }

    private static func body(_ writer: inout MessageWriter, _ address: InterfaceAddress) {
        header(
            &writer, family: address.family, length: address.prefix.length, scope: address.scope,
            index: address.interface.rawValue)
        writer.attribute(Int(IFA_LOCAL), address.address)
        writer.attribute(Int(IFA_ADDRESS), address.peer ?? address.address)
    }

    private static func header(
        _ writer: inout MessageWriter, family: AddressFamily, length: Int, scope: RoutingScope, index: UInt32
    ) {
        writer.append(family.kernelNumber)
        writer.append(UInt8(truncatingIfNeeded: length))
        writer.append(UInt8(0))
        writer.append(scope.rawValue)
        writer.append(index)
    }
}
