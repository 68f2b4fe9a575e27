// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

/// A table of forwarding rules in the protocol of `pesto`.
public enum PestoTable: UInt8, Hashable, Sendable, CaseIterable {
    /// The host listens: `-t` and `-u`.
    case host = 1
    /// The namespace listens: `-T` and `-U`.
    case splice = 3

    /// The name that the server sends and `pesto` prints.
    public var name: String {
        switch self {
        case .host: "HOST"
        case .splice: "SPLICE"
        }
    }

    /// The direction of the rules in the table.
    public var direction: ForwardDirection {
        switch self {
        case .host: .inbound
        case .splice: .outbound
        }
    }
}

/// Why bytes of a `pesto` client are refused.
public struct PestoError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, in a few words.
    public var description: String

    init(_ description: String) {
        self.description = description
    }
}

/// The layout of a forwarding rule in the protocol of `pesto`, version 2: 56 bytes, integers big-endian.
enum PestoRule {
    /// The length of a rule in bytes.
    static let length = 56

    /// Offsets in bytes.
    private enum Offset {
        static let address = 0
        static let target = 16
        static let interface = 32
        static let first = 48
        static let last = 50
        static let to = 52
        static let transport = 54
        static let flags = 55
    }

    private enum Flag {
        static let bothFamilies: UInt8 = 1 << 0
        static let bestEffort: UInt8 = 1 << 1
        static let scanned: UInt8 = 1 << 2
        static let known: UInt8 = 0b111
    }

    /// The bytes of an interface's name, with the NUL that ends it (`IFNAMSIZ`).
    static let interfaceNameLength = 16

    /// Appends a rule.
    static func append(_ rule: PortForward, to bytes: inout [UInt8]) {
        append(rule.address?.asIPv6 ?? .unspecified, to: &bytes)
        append(rule.targetAddress?.asIPv6 ?? .unspecified, to: &bytes)
        let name = Array((rule.interface ?? "").utf8.prefix(interfaceNameLength - 1))
        bytes += name
        bytes += [UInt8](repeating: 0, count: interfaceNameLength - name.count)
        for port in [rule.first, rule.last, rule.targetFirst] {
            bytes += [UInt8(port.rawValue >> 8), UInt8(truncatingIfNeeded: port.rawValue)]
        }
        bytes.append(rule.transport == .tcp ? 6 : 17)
        var flags: UInt8 = rule.address == nil ? Flag.bothFamilies : 0
        switch rule.policy {
        case .explicit: break
        case .bestEffort: flags |= Flag.bestEffort
        case .scanned: flags |= Flag.scanned
        }
        bytes.append(flags)
    }

    private static func append(_ address: IPv6Address, to bytes: inout [UInt8]) {
        for half in [address.high, address.low] {
            for shift in stride(from: UInt64(56), through: 0, by: -8) {
                bytes.append(UInt8(truncatingIfNeeded: half >> shift))
            }
        }
    }

    /// Reads a rule.
    ///
    /// - Parameters:
    ///   - bytes: exactly ``length`` bytes.
    ///   - table: the table that the rule was sent for.
    /// - Returns: the rule.
    /// - Throws: If the bytes are not a rule that this program supports.
    static func parse(_ bytes: ArraySlice<UInt8>, in table: PestoTable) throws(PestoError) -> PortForward {
        guard bytes.count == length else { throw PestoError("a rule of \(bytes.count) bytes") }
        let bytes = Array(bytes)
        let transport: TransportProtocol
        switch bytes[Offset.transport] {
        case 6: transport = .tcp
        case 17: transport = .udp
        default: throw PestoError("a rule for IP protocol \(bytes[Offset.transport]); 6 and 17 are forwarded")
        }
        let flags = bytes[Offset.flags]
        guard flags & ~Flag.known == 0 else { throw PestoError("a rule with unknown flags \(flags)") }
        let first = port(bytes, Offset.first)
        let last = port(bytes, Offset.last)
        let target = port(bytes, Offset.to)
        guard first > 0, first <= last else { throw PestoError("a rule for ports \(first) to \(last)") }
        guard target > 0, Int(target) + Int(last - first) <= 65535 else {
            throw PestoError("a rule that forwards \(first)-\(last) to ports from \(target) on")
        }
        let listening = address(bytes, Offset.address)
        let isForBoth = flags & Flag.bothFamilies != 0
        guard !isForBoth || listening.isUnspecified else {
            throw PestoError("a rule for both families with the address \(IPAddress(unmapping: listening))")
        }
        let place = isForBoth ? nil : IPAddress(unmapping: listening)
        if let place, place.isMulticast || place.isBroadcast {
            throw PestoError("a rule that listens on \(place), which is no address of a host")
        }
        let policy: PortForward.Policy =
            if flags & Flag.scanned != 0 { .scanned } else if flags & Flag.bestEffort != 0 { .bestEffort } else {
                .explicit
            }
        return PortForward(
            direction: table.direction, transport: transport, address: place, interface: try interface(bytes),
            first: Port(first), last: Port(last), targetFirst: Port(target),
            targetAddress: try targetAddress(bytes, listening: place), policy: policy)
    }

    private static func port(_ bytes: [UInt8], _ offset: Int) -> UInt16 {
        UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1])
    }

    private static func address(_ bytes: [UInt8], _ offset: Int) -> IPv6Address {
        var halves: [UInt64] = [0, 0]
        for index in 0..<16 { halves[index / 8] = halves[index / 8] << 8 | UInt64(bytes[offset + index]) }
        return IPv6Address(high: halves[0], low: halves[1])
    }

    private static func interface(_ bytes: [UInt8]) throws(PestoError) -> String? {
        let field = bytes[Offset.interface..<Offset.interface + interfaceNameLength]
        guard field.last == 0, let end = field.firstIndex(of: 0) else {
            throw PestoError("a rule whose interface name has no end")
        }
        let name = field[..<end]
        if name.isEmpty { return nil }
        guard name.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "/") }), name != [0x2E],
            name != [0x2E, 0x2E]
        else { throw PestoError("a rule for an interface whose name no interface can have") }
        return String(decoding: name, as: UTF8.self)
    }

    /// The target address; nil for the default target (`::`, and `0.0.0.0` in mapped form).
    private static func targetAddress(_ bytes: [UInt8], listening: IPAddress?) throws(PestoError) -> IPAddress? {
        let target = IPAddress(unmapping: address(bytes, Offset.target))
        if target.isUnspecified { return nil }
        guard !target.isMulticast, !target.isBroadcast else {
            throw PestoError("a rule that forwards to \(target), which is no address of a host")
        }
        guard let listening, listening.family == target.family else {
            throw PestoError("a rule that forwards to \(target) and does not listen on an address of its family")
        }
        return target
    }
}
