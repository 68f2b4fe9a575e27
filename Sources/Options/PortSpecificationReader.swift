// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

/// Splits the text of a port specification into its bind and its chunks, each with its position.
struct PortSpecificationReader {
    /// Where to listen.
    struct Bind {
        /// The address; nil for both families.
        var address: IPAddress?
        /// The device.
        var interface: String?
        /// The position of the chunks.
        var end: Int
    }

    /// The target of the first port of a range.
    struct Target: Hashable {
        var first: UInt16
        /// nil for the other side's own address.
        var address: IPAddress?
    }

    /// A part between commas.
    struct Chunk {
        enum Content: Hashable {
            case all(target: IPAddress?)
            case auto
            case exclude(ClosedRange<UInt16>)
            case include(ClosedRange<UInt16>, Target)
        }

        var content: Content
        var source: Range<Int>

        var isInclude: Bool { if case .include = content { true } else { false } }
        var isAll: Bool { if case .all = content { true } else { false } }
    }

    let specification: String
    let bytes: [UInt8]
    private let direction: ForwardDirection
    private let families: Set<AddressFamily>
    private let wildcard: IPAddress?

    init(_ specification: String, direction: ForwardDirection, families: Set<AddressFamily>) {
        self.specification = specification
        self.bytes = Array(specification.utf8)
        self.direction = direction
        self.families = families
        wildcard = Self.wildcard(of: families)
    }

    /// The meaning of a missing address: the wildcard of both families, or of the only one in use.
    static func wildcard(of families: Set<AddressFamily>) -> IPAddress? {
        if families == [.v4] { return .v4(.unspecified) }
        if families == [.v6] { return .v6(.unspecified) }
        return nil
    }

    func error(_ kind: PortSpecificationError.Kind, at range: Range<Int>, _ reason: String) -> PortSpecificationError {
        PortSpecificationError(kind, in: specification, at: range, reason)
    }

    // MARK: - Bind

    /// Reads the text before the first '/', unless that '/' belongs to a target.
    func readBind() throws(PortSpecificationError) -> Bind {
        let unbound = Bind(address: wildcard, interface: nil, end: 0)
        guard let slash = bytes.firstIndex(of: UInt8(ascii: "/")) else { return unbound }
        let percent = bytes[..<slash].firstIndex(of: UInt8(ascii: "%"))
        let addressRange = 0..<(percent ?? slash)
        let isWildcard = addressRange.isEmpty || text(addressRange) == "*"
        let address = isWildcard ? nil : self.address(addressRange)
        if !isWildcard, address == nil {
            if beginsChunk(0..<slash) { return unbound }
            throw error(.syntax, at: addressRange, "\(quotedText(addressRange)) is no IP address")
        }
        if direction == .outbound {
            throw error(
                .bindNotAllowed, at: 0..<slash,
                "only the namespace's loopback is listened on; leave out everything up to '/'")
        }
        var bind = Bind(address: address ?? wildcard, interface: nil, end: slash + 1)
        if let percent { bind.interface = try interfaceName((percent + 1)..<slash) }
        if let address, !families.contains(address.family) {
            throw error(
                .familyDisabled, at: addressRange,
                "\(address) is an \(address.family) address and \(address.family) is off")
        }
        return bind
    }

    /// Whether the text before a '/' can only be the start of a chunk, so that the '/' belongs to a target.
    private func beginsChunk(_ range: Range<Int>) -> Bool {
        let head = bytes[range].prefix { $0 != UInt8(ascii: ":") && $0 != UInt8(ascii: ",") }
        guard let first = head.first else { return false }
        if first == UInt8(ascii: "~") || head.elementsEqual("all".utf8) || head.elementsEqual("auto".utf8) {
            return true
        }
        return head.allSatisfy { isDigit($0) || $0 == UInt8(ascii: "-") } && head.endIndex < range.upperBound
    }

    private func interfaceName(_ range: Range<Int>) throws(PortSpecificationError) -> String {
        let name = text(range)
        guard isInterfaceName(name) else {
            throw error(
                .interfaceName, at: range,
                "\(quotedText(range)) is no interface name: 1 to 15 bytes without '/' and blanks, not '.' or '..'")
        }
        return name
    }

    // MARK: - Chunks

    /// Reads the chunks from a position to the end.
    func readChunks(from start: Int) throws(PortSpecificationError) -> [Chunk] {
        var chunks: [Chunk] = []
        var position = start
        while true {
            let end = bytes[position...].firstIndex(of: UInt8(ascii: ",")) ?? bytes.endIndex
            chunks.append(Chunk(content: try readChunk(position..<end), source: position..<end))
            guard end < bytes.endIndex else { return chunks }
            position = end + 1
        }
    }

    private func readChunk(_ range: Range<Int>) throws(PortSpecificationError) -> Chunk.Content {
        if range.isEmpty {
            throw error(.syntax, at: range, bytes.isEmpty ? "empty; give ports, or 'none'" : "a port is missing here")
        }
        if bytes[range].elementsEqual("none".utf8) {
            throw error(.noneNotAlone, at: range, "'none' must stand alone")
        }
        if bytes[range.lowerBound] == UInt8(ascii: "~") { return try readExclusion(range) }

        let colon = bytes[range].firstIndex(of: UInt8(ascii: ":"))
        let head = range.lowerBound..<(colon ?? range.upperBound)
        let tail = colon.map { ($0 + 1)..<range.upperBound }
        if bytes[head].elementsEqual("auto".utf8) {
            if let tail { throw error(.targetNotAllowed, at: tail, "'auto' takes no target") }
            return .auto
        }
        if bytes[head].elementsEqual("all".utf8) {
            return .all(target: try tail.flatMap { tail throws(PortSpecificationError) in try readAllTarget(tail) })
        }
        // `5000:2001:db8::5` looks like an IPv6 address, but is a port and its target here.
        let isPorts = !head.isEmpty && bytes[head].allSatisfy { isDigit($0) || $0 == UInt8(ascii: "-") }
        if !isPorts { try refuseAddress(range, head: head) }
        let listen = try readRange(head)
        return .include(listen, try readTarget(tail, for: listen))
    }

    /// Refuses a chunk that is, or contains, an address where only a port is possible.
    private func refuseAddress(_ range: Range<Int>, head: Range<Int>) throws(PortSpecificationError) {
        if address(range) != nil {
            throw error(.syntax, at: range, "an address alone names no port; write ADDRESS/PORT")
        }
        if address(head) != nil {
            throw error(.syntax, at: head, "an address is followed by '/', not by ':'; write ADDRESS/PORT")
        }
        if let slash = bytes[range].firstIndex(of: UInt8(ascii: "/")),
            slash < head.upperBound || address(range.lowerBound..<slash) != nil
        {
            throw error(
                .syntax, at: range.lowerBound..<slash,
                "the address before the first '/' holds for the whole list; repeat the option for another one")
        }
    }

    private func readExclusion(_ range: Range<Int>) throws(PortSpecificationError) -> Chunk.Content {
        let body = (range.lowerBound + 1)..<range.upperBound
        if let colon = bytes[body].firstIndex(of: UInt8(ascii: ":")) {
            throw error(.targetNotAllowed, at: (colon + 1)..<range.upperBound, "an exclusion takes no target")
        }
        return .exclude(try readRange(body))
    }

    /// Reads the text behind `all:`.
    private func readAllTarget(_ range: Range<Int>) throws(PortSpecificationError) -> IPAddress? {
        if range.isEmpty { throw error(.syntax, at: range, "an address is missing after ':'") }
        if let address = address(range) { return try checkedTarget(address, at: range) }
        let slash = bytes[range].firstIndex(of: UInt8(ascii: "/"))
        if let slash, address(range.lowerBound..<slash) != nil {
            throw error(
                .targetNotAllowed, at: (slash + 1)..<range.upperBound, "'all' keeps the ports; give an address only")
        }
        if bytes[range].allSatisfy({ isDigit($0) || $0 == UInt8(ascii: "-") }) {
            throw error(.targetNotAllowed, at: range, "'all' keeps the ports; give an address only")
        }
        throw error(.syntax, at: range, "\(quotedText(range)) is no IP address")
    }

    /// Reads the text behind the ':' of a range; without one, the ports are the same.
    private func readTarget(
        _ range: Range<Int>?, for listen: ClosedRange<UInt16>
    ) throws(PortSpecificationError) -> Target {
        guard let range else { return Target(first: listen.lowerBound, address: nil) }
        if range.isEmpty { throw error(.syntax, at: range, "a target is missing after ':'") }
        if let address = address(range) {
            return Target(first: listen.lowerBound, address: try checkedTarget(address, at: range))
        }
        var ports = range
        var target: IPAddress?
        if let slash = bytes[range].firstIndex(of: UInt8(ascii: "/")) {
            let addressRange = range.lowerBound..<slash
            guard let address = address(addressRange) else {
                throw error(.syntax, at: addressRange, "\(quotedText(addressRange)) is no IP address")
            }
            target = try checkedTarget(address, at: addressRange)
            ports = (slash + 1)..<range.upperBound
        }
        let mapped = try readRange(ports)
        guard mapped.count == listen.count else {
            throw error(
                .range, at: ports,
                "\(listen.count) \(listen.count == 1 ? "port" : "ports") cannot go to \(mapped.count); ranges must be equally wide"
            )
        }
        return Target(first: mapped.lowerBound, address: target)
    }

    /// The target address; nil for an unspecified one, which means the same as none.
    private func checkedTarget(_ target: IPAddress, at range: Range<Int>) throws(PortSpecificationError) -> IPAddress? {
        if target.isUnspecified { return nil }
        if target.isMulticast || target.isBroadcast {
            throw error(.multicastTarget, at: range, "\(target) is no single host's address")
        }
        if direction == .outbound {
            throw error(
                .targetNeedsAddress, at: range,
                "from the namespace only the host's loopback can be reached; leave the target address out")
        }
        guard let listening = try readBind().address else {
            let any = target.family == .v4 ? "0.0.0.0" : "::"
            throw error(
                .targetNeedsAddress, at: range,
                "a target address needs a listening address of its family; begin with '\(any)/'")
        }
        guard listening.family == target.family else {
            throw error(
                .familyMismatch, at: range,
                "\(target) is an \(target.family) address, but \(listening) is listened on")
        }
        return target
    }

    // MARK: - Ports and addresses

    private func readRange(_ range: Range<Int>) throws(PortSpecificationError) -> ClosedRange<UInt16> {
        guard let dash = bytes[range].firstIndex(of: UInt8(ascii: "-")) else {
            let port = try readPort(range)
            return port...port
        }
        let first = try readPort(range.lowerBound..<dash)
        let last = try readPort((dash + 1)..<range.upperBound)
        guard first <= last else { throw error(.range, at: range, "the range ends before it begins") }
        return first...last
    }

    private func readPort(_ range: Range<Int>) throws(PortSpecificationError) -> UInt16 {
        let digits = bytes[range]
        guard let first = digits.first else { throw error(.syntax, at: range, "a port is missing here") }
        guard digits.allSatisfy(isDigit) else {
            throw error(.syntax, at: range, "\(quotedText(range)) is no port; ports are decimal digits, 1 to 65535")
        }
        if first == UInt8(ascii: "0") {
            guard digits.count > 1 else { throw error(.portZero, at: range, "port 0 cannot be forwarded") }
            throw error(.syntax, at: range, "\(quotedText(range)) begins with 0; ports are decimal, 1 to 65535")
        }
        guard digits.count <= 5, let port = UInt16(text(range)) else {
            throw error(.range, at: range, "\(quotedText(range)) is above 65535")
        }
        return port
    }

    /// The address in a part, in brackets or bare.
    private func address(_ range: Range<Int>) -> IPAddress? {
        var range = range
        if range.count >= 2, bytes[range.lowerBound] == UInt8(ascii: "["),
            bytes[range.upperBound - 1] == UInt8(ascii: "]")
        {
            range = (range.lowerBound + 1)..<(range.upperBound - 1)
        }
        return IPAddress(text(range))
    }

    private func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

    private func quotedText(_ range: Range<Int>) -> String { quoted(text(range)) }

    private func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }
}

/// Whether an interface can have a name: 1 to 15 bytes, no '/', no white space, not `.` or `..`.
func isInterfaceName(_ name: String) -> Bool {
    guard (1...15).contains(name.utf8.count), name != ".", name != ".." else { return false }
    return !name.utf8.contains {
        $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: " ") || (9...13).contains($0) || $0 == 0
    }
}
