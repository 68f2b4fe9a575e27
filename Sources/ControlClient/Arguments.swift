// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
public import NetworkTypes

/// The order of the arguments of `tapasctl`: options that all commands have may also be given before the command.
public enum ArgumentOrder {
    /// The options that every command has, and whether they take a value.
    static let common: [String: Bool] = [
        "-s": true, "--socket": true, "--pid": true, "--all": false, "--json": false,
    ]
    /// The commands of two words, each with the second word that is the default.
    static let groups: [String: (words: Set<String>, fallback: String?)] = [
        "flows": (["kill", "list"], "list"), "forward": (["list", "add", "remove", "replace"], nil),
        "log": (["level"], nil), "pcap": (["start", "stop"], nil), "flow-log": (["rotate"], nil),
        "policy": (["list", "test", "allow", "deny", "reload"], nil),
    ]

    /// Moves such options behind the command.
    ///
    /// - Parameter arguments: the arguments without the program's name.
    /// - Returns: the same arguments, in the order that the parser expects.
    public static func normalized(_ arguments: [String]) -> [String] {
        var moved: [String] = []
        var rest = arguments[...]
        while let word = rest.first, word.hasPrefix("-") {
            let name = word.split(separator: "=", maxSplits: 1).first.map(String.init) ?? word
            let isShortWithValue = word.hasPrefix("-s") && !word.hasPrefix("--") && word.count > 2
            guard isShortWithValue || common[name] != nil else { return arguments }
            moved.append(rest.removeFirst())
            guard !isShortWithValue, common[name] == true, !word.contains("="), let value = rest.first else { continue }
            moved.append(value)
            rest.removeFirst()
        }
        guard let command = rest.popFirst() else { return arguments }
        var words = [command]
        if let group = groups[command] {
            if let second = rest.first, group.words.contains(second) {
                words.append(rest.removeFirst())
            } else if let fallback = group.fallback, !rest.contains("--help"), !rest.contains("-h") {
                words.append(fallback)
            }
        }
        return words + moved + rest
    }
}

/// A destination for `explain`: an address, optionally with a port.
public struct DestinationArgument: Hashable, Sendable {
    /// The address.
    public var address: IPAddress
    /// The port.
    public var port: UInt16?

    /// Reads "192.0.2.1", "192.0.2.1:443", "2001:db8::1" or "[2001:db8::1]:443"; nil if it is none of these.
    public init?(_ text: String) {
        if let address = IPAddress(text) {
            self.address = address
            return
        }
        let parts: (address: Substring, port: Substring)
        if text.hasPrefix("[") {
            guard let close = text.firstIndex(of: "]") else { return nil }
            let rest = text[text.index(after: close)...]
            parts = (text[text.index(after: text.startIndex)..<close], rest.dropFirst())
            if rest.isEmpty {
                guard let address = IPAddress(String(parts.address)) else { return nil }
                self.address = address
                return
            }
            guard rest.hasPrefix(":") else { return nil }
        } else {
            guard let colon = text.lastIndex(of: ":") else { return nil }
            parts = (text[..<colon], text[text.index(after: colon)...])
        }
        guard let address = IPAddress(String(parts.address)), let port = UInt16(parts.port), port > 0 else {
            return nil
        }
        self.address = address
        self.port = port
    }
}

/// The words that select flows: `tcp`, `remote=192.0.2.1`, `remote-port=443`, `all`.
public struct FlowFilterArguments: Hashable, Sendable {
    /// The parameters of the request.
    public private(set) var parameters = JSONObject()
    /// Whether all flows are selected.
    public private(set) var meansAll = false

    /// The names of words with a value, and whether the value is a number.
    private static let names: [String: Bool] = [
        "protocol": false, "guest": false, "remote": false, "host": false, "guest-port": true, "remote-port": true,
        "host-port": true, "interface": false, "state": false,
    ]

    /// Reads the words.
    ///
    /// - Throws: The error in one of them.
    public init(_ words: [String]) throws(ClientError) {
        for word in words {
            switch word {
            case "tcp", "udp", "icmp": try set("protocol", .string(word))
            case "all": meansAll = true
            default:
                let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
                guard parts.count == 2, let isNumber = Self.names[parts[0]] else {
                    throw ClientError(
                        "'\(word)': give tcp, udp, icmp, all, or NAME=VALUE with one of "
                            + Self.names.keys.sorted().joined(separator: ", "))
                }
                if isNumber {
                    guard let port = UInt16(parts[1]) else { throw ClientError("'\(word)': no port, give 0 to 65535") }
                    try set(parts[0], JSONValue(port))
                } else {
                    try set(parts[0], .string(parts[1]))
                }
            }
        }
    }

    private mutating func set(_ name: String, _ value: JSONValue) throws(ClientError) {
        let name = String(name.map { $0 == "-" ? "_" : $0 })
        guard parameters[name] == nil else { throw ClientError("'\(name)' is given twice") }
        parameters[name] = value
    }
}
