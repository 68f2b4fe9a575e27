// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

extension ResolverConfiguration {
    /// The greatest number of servers that are read from a file; glibc uses 3, we try all.
    public static let maximumServers = 16
    /// The greatest number of search domains that are read from a file.
    public static let maximumSearchDomains = 32

    /// Reads the text of a resolv.conf(5) as resolver(5) describes it.
    ///
    /// A keyword begins its line and is followed by blanks or tabs. Lines that begin with `#` or `;` are comments, and
    /// so is what follows either on other lines. The last `search` or `domain` line counts. `options`, `sortlist`,
    /// unknown keywords, and servers that are not addresses are ignored. Nothing is an error.
    public init(resolvConf text: some Sequence<UInt8>) {
        self.init()
        var line: [UInt8] = []
        for byte in text {
            if byte == UInt8(ascii: "\n") {
                take(line)
                line.removeAll(keepingCapacity: true)
            } else {
                line.append(byte)
            }
        }
        take(line)
    }

    private mutating func take(_ line: [UInt8]) {
        guard let first = line.first, !Self.isBlank(first), !Self.beginsComment(first) else { return }
        let words = line.prefix { !Self.beginsComment($0) }.split(whereSeparator: Self.isBlank)
            .map { String(decoding: $0, as: UTF8.self) }
        guard words.count > 1 else { return }
        switch words[0] {
        case "nameserver":
            guard servers.count < Self.maximumServers, let server = Self.server(words[1]), !servers.contains(server)
            else { return }
            servers.append(server)
        case "search":
            // A single dot is how systemd-resolved writes "none".
            search = Array(words.dropFirst().filter { $0 != "." }.prefix(Self.maximumSearchDomains))
        case "domain":
            search = words[1] == "." ? [] : [words[1]]
        default:
            break
        }
    }

    /// An address with the zone that may follow it after `%`.
    private static func server(_ word: String) -> Server? {
        let parts = word.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        guard let address = parts.first.flatMap({ IPAddress($0) }) else { return nil }
        guard parts.count == 2 else { return Server(address) }
        return parts[1].isEmpty ? nil : Server(address, zone: String(parts[1]))
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") || byte == UInt8(ascii: "\r")
    }

    private static func beginsComment(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "#") || byte == UInt8(ascii: ";")
    }
}
