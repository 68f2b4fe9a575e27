// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

/// The argument of an option, and the ways to parse it; each failure names the option, the value and a remedy.
struct OptionValue {
    let option: OptionDescription
    let text: String

    func failure(_ problem: String) -> UsageError { UsageError(option, text, problem) }

    /// Whether the value is the word `none`.
    var isNone: Bool { text == "none" }

    /// A text that is not empty.
    func nonEmpty(_ what: String) throws(UsageError) -> String {
        if text.isEmpty { throw failure("empty; give \(what)") }
        return text
    }

    /// A path.
    ///
    /// Bytes that are not UTF-8 have become U+FFFD by now, which would be another path.
    func path() throws(UsageError) -> String {
        if text.unicodeScalars.contains("\u{FFFD}") { throw failure("not valid UTF-8; give the path by another name") }
        return try nonEmpty("a path")
    }

    // MARK: - Numbers

    /// A decimal number: digits without a leading zero.
    func decimal(_ range: ClosedRange<UInt64>, _ what: String) throws(UsageError) -> UInt64 {
        guard let number = Self.decimal(text), range.contains(number) else {
            throw failure("give \(what), \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    /// Digits without a leading zero; nil for anything else and for numbers above 64 bits.
    static func decimal(_ text: some StringProtocol) -> UInt64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        if text.utf8.first == UInt8(ascii: "0"), text.utf8.count > 1 { return nil }
        return UInt64(text)
    }

    /// A number as in C: decimal, `0x` hexadecimal, or `0` octal; no sign, no blanks.
    static func cNumber(_ text: some StringProtocol) -> UInt64? {
        if text.hasPrefix("0x") || text.hasPrefix("0X") {
            let digits = text.dropFirst(2)
            guard !digits.isEmpty, digits.allSatisfy(\.isASCIIHexDigit) else { return nil }
            return UInt64(digits, radix: 16)
        }
        guard !text.isEmpty, text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return UInt64(text, radix: text.utf8.first == UInt8(ascii: "0") ? 8 : 10)
    }

    /// Seconds, with up to three decimals.
    func seconds(upTo limit: Int64) throws(UsageError) -> Duration {
        let parts = text.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        let fraction = parts.count == 2 ? parts[1] : "0"
        let digits = fraction.utf8.allSatisfy { (0x30...0x39).contains($0) } && (1...3).contains(fraction.utf8.count)
        if let whole = parts.first.flatMap({ Self.decimal($0) }).flatMap(Int64.init(exactly:)), whole <= limit, digits,
            let thousandths = Int64(fraction + String(repeating: "0", count: 3 - fraction.utf8.count))
        {
            return .milliseconds(whole * 1000 + thousandths)
        }
        throw failure("give seconds, 0 to \(limit)")
    }

    // MARK: - Addresses

    /// An address of either family.
    func address() throws(UsageError) -> IPAddress {
        guard let address = IPAddress(text) else {
            throw failure("no IP address; give one like 192.0.2.1 or 2001:db8::1")
        }
        return address
    }

    /// Refuses an address that cannot be used.
    func refuse(_ address: IPAddress, _ kinds: Set<AddressKind>) throws(UsageError) {
        for kind in AddressKind.allCases where kinds.contains(kind) && kind.includes(address) {
            throw failure("\(kind.words) cannot be used here; give the address of a single host")
        }
    }

    /// Kinds of addresses that options refuse.
    enum AddressKind: CaseIterable {
        case unspecified, loopback, multicast, broadcast

        var words: String {
            switch self {
            case .unspecified: "the unspecified address"
            case .loopback: "a loopback address"
            case .multicast: "a multicast address"
            case .broadcast: "the broadcast address"
            }
        }

        func includes(_ address: IPAddress) -> Bool {
            switch self {
            case .unspecified: address.isUnspecified
            case .loopback: address.isLoopback
            case .multicast: address.isMulticast
            case .broadcast: address.isBroadcast
            }
        }
    }

    /// A value of `-a`: a keyword, an interface after `%`, an address, or an interface whose name looks like none.
    func addressSource() throws(UsageError) -> AddressSource {
        switch text {
        case "auto": return .template
        case "all": return .all
        case "ll": return .linkLocal
        default: break
        }
        if text.hasPrefix("%") { return .interface(try sourceInterface(String(text.dropFirst()))) }
        let isAddress =
            text.isEmpty || text.hasPrefix("[") || text.contains("/") || text.contains(":")
            || text.utf8.allSatisfy { (0x30...0x39).contains($0) || $0 == UInt8(ascii: ".") }
        guard isAddress else { return .interface(try sourceInterface(text)) }
        let (address, length) = try addressWithLength()
        return .explicit(address, length: length)
    }

    private func sourceInterface(_ name: String) throws(UsageError) -> String {
        guard isInterfaceName(name), !name.contains(":") else {
            throw failure(
                "neither an address nor an interface's name; give ADDRESS[/LENGTH], auto, all, ll, or %NAME with 1 to "
                    + "15 characters without '/', ':' and blanks")
        }
        return name
    }

    /// `ADDR[/LEN]`, brackets around ADDR allowed; an IPv4-mapped address with a length counts as IPv4 with LEN − 96.
    func addressWithLength() throws(UsageError) -> (address: IPAddress, length: Int?) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        var addressText = parts.first ?? ""
        if addressText.hasPrefix("["), addressText.hasSuffix("]") { addressText = addressText.dropFirst().dropLast() }
        guard let address = IPAddress(addressText) else {
            throw failure(
                "no IP address; give ADDRESS or ADDRESS/LENGTH, like 192.0.2.1/24, or %NAME for an interface")
        }
        guard parts.count == 2 else { return (address, nil) }
        let mappedBits = address.family == .v4 && addressText.contains(":") ? 96 : 0
        let limit = address.family.addressBitCount + mappedBits
        guard let length = Self.decimal(parts[1]).flatMap(Int.init(exactly:)),
            (1 + mappedBits...limit).contains(length)
        else {
            throw failure(
                "the prefix length must be \(1 + mappedBits) to \(limit); leave out '/' and it for the default")
        }
        return (address, length - mappedBits)
    }

    /// A netmask, as a prefix length or dotted.
    func netmask() throws(UsageError) -> Int {
        if let length = Self.decimal(text), (1...32).contains(length) { return Int(length) }
        if let mask = IPv4Address(text)?.rawValue, mask != 0, Prefix.mask4(mask.nonzeroBitCount) == mask {
            return mask.nonzeroBitCount
        }
        throw failure("give a prefix length, 1 to 32, or a mask like 255.255.255.0")
    }

    /// A hardware address that can be an interface's.
    func hardwareAddress() throws(UsageError) -> MACAddress {
        guard let address = MACAddress(text) else {
            throw failure("give six pairs of hexadecimal digits: 02:00:00:00:00:01")
        }
        if address.isMulticast {
            throw failure("a multicast address cannot be an interface's; the first pair must be even")
        }
        if address == .zero { throw failure("the zero address cannot be an interface's") }
        return address
    }

    // MARK: - Names

    /// A name that an interface can have.
    func interfaceName() throws(UsageError) -> String {
        guard isInterfaceName(text), !text.contains(":") else {
            throw failure("no interface name; give 1 to 15 characters without '/', ':' and blanks")
        }
        return text
    }

    /// A host or domain name.
    func domainName(_ what: String) throws(UsageError) -> String {
        guard Self.isDomainName(text) else { throw failure("give \(what) of 1 to 253 characters without blanks") }
        return text
    }

    /// Whether a text can be a name: 1 to 253 bytes, without blanks and control characters.
    static func isDomainName(_ text: some StringProtocol) -> Bool {
        (1...253).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
    }

    /// `UID[:GID]` or `LOGIN[:GROUP]`.
    func accounts() throws(UsageError) -> (user: Invocation.Account, group: Invocation.Account?) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        let user = try account(parts.first ?? "")
        return (user, parts.count == 2 ? try account(parts[1]) : nil)
    }

    private func account(_ part: Substring) throws(UsageError) -> Invocation.Account {
        if let number = Self.cNumber(part) {
            // The highest number means "no change" to setresuid(2).
            guard let id = UInt32(exactly: number), id != .max else {
                throw failure("an id is at most 4294967294")
            }
            return .id(id)
        }
        let isNumeric = part.utf8.allSatisfy { (0x30...0x39).contains($0) }
        guard !part.isEmpty, !isNumeric, !part.hasPrefix("-"), !part.contains(":"), Self.isDomainName(part) else {
            throw failure("give UID, UID:GID, LOGIN or LOGIN:GROUP")
        }
        return .name(String(part))
    }
}
