// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import Options
import Testing

@Suite("The option table, --help and the manual")
struct OptionTableTests {
    @Test("every option has its entry at its place, and no name or letter twice")
    func isSound() {
        #expect(OptionDescription.table.map(\.name) == OptionName.allCases)
        let names = OptionDescription.table.flatMap(\.longNames)
        #expect(Set(names).count == names.count)
        let letters = OptionDescription.table.compactMap(\.letter)
        #expect(Set(letters).count == letters.count)
        #expect(OptionDescription.table.allSatisfy { !$0.longNames.isEmpty && !$0.help.isEmpty })
        #expect(letters.allSatisfy { $0.isASCII })
    }

    /// The letters and names that callers of pasta rely on, apart from the table.
    @Test(
        "letters and long names are pasta's",
        arguments: [
            "d debug", "q quiet", "f foreground", "e stderr", "l log-file", "c conf-path", "h help", "p pcap", "P pid",
            "F fd", "m mtu", "a address", "n netmask", "g gateway", "i interface", "o outbound", "4 ipv4-only",
            "6 ipv6-only", "M mac-addr", "I ns-ifname", "D dns", "S search", "H hostname", "t tcp-ports", "u udp-ports",
            "T tcp-ns", "U udp-ns", "s socket", "1 one-off", "trace", "stats", "log-size", "runas", "version",
            "chroot-fallback", "outbound-if4", "outbound-if6", "ns-mac-addr", "config-net", "no-copy-routes",
            "no-copy-addrs", "dns-forward", "dns-host", "fqdn", "dhcp-dns", "dhcp-search", "no-dhcp", "no-dhcpv6",
            "no-ra", "no-ndp", "no-icmp", "no-tcp", "no-udp", "map-host-loopback", "map-guest-addr", "no-map-gw",
            "host-lo-to-ns-lo", "no-splice", "splice-only", "freebind", "netns", "userns", "netns-only",
            "no-netns-quit", "print-capabilities", "vhost-user", "no-dhcp-dns", "no-dhcp-search", "repair-path",
            "migrate-exit", "migrate-no-linger", "socket-path",
        ])
    func names(line: String) throws {
        let words = line.split(separator: " ").map(String.init)
        let long = try #require(words.last)
        let option = try #require(OptionDescription.table.first { $0.longNames.contains(long) })
        if words.count == 2 { #expect(option.letter.map(String.init) == words.first) }
    }

    @Test("--help names every option, its letter and its argument, in at most 100 columns")
    func help() {
        let text = HelpText.help(program: "tapas")
        let lines = text.split(separator: "\n")
        for option in OptionDescription.table {
            let argument = option.argument.map { option.isArgumentOptional ? "[=\($0)]" : " \($0)" } ?? ""
            let names = option.longNames.map { "--\($0)" }.joined(separator: ", ") + argument
            let head = option.letter.map { "  -\($0), \(names)" } ?? "      \(names)"
            #expect(lines.contains { $0 == head || $0.hasPrefix(head + "  ") }, "\(head)")
            #expect(text.contains(option.help), "\(option.longName)")
        }
        #expect(lines.allSatisfy { $0.count <= 100 }, "\(lines.filter { $0.count > 100 })")
        #expect(text.hasPrefix(HelpText.usage(program: "tapas")))
    }

    @Test("the manual has an item for every option, with letter, names and argument")
    func manual() throws {
        let items = try manualItems()
        for option in OptionDescription.table {
            let names = (option.letter.map { [String($0)] } ?? []) + option.longNames.map { "-\($0)" }
            let item = try #require(items.first { $0.names == names }, "the manual lacks \(option.displayName)")
            #expect(item.hasArgument == (option.argument != nil), "\(option.displayName)")
        }
    }

    @Test("the manual has no item for an option that does not exist, and none twice")
    func manualHasNoOthers() throws {
        let items = try manualItems()
        let known = OptionDescription.table.map { option in
            (option.letter.map { [String($0)] } ?? []) + option.longNames.map { "-\($0)" }
        }
        for item in items { #expect(known.contains(item.names), "\(item.names)") }
        #expect(Set(items.map(\.names)).count == items.count)
    }

    @Test("the manual has every value of --mode and of -a")
    func manualValues() throws {
        let text = String(decoding: try contents(of: repositoryPath("docs/man/tapas.1")), as: UTF8.self)
        for mode in NetworkMode.allCases { #expect(text.contains("\n.Cm \(mode)")) }
        #expect(text.contains(".It Fl -mode Cm \(NetworkMode.allCases.map { "\($0)" }.joined(separator: " | "))\n"))
        // The items of the list below the option.
        let part = try #require(text.components(between: ".It Fl a , Fl -address", and: ".It Fl n , Fl -netmask"))
        for item in ["Ar addr Ns Op / Ns Ar len", "Cm auto", "Ar name", "Cm all", "Cm ll"] {
            #expect(part.contains("\n.It \(item)\n"), "\(item)")
        }
        #expect(part.contains("Ql % Ns Ar name"))
    }

    /// An item of an option list in the manual.
    private struct Item {
        var names: [String]
        var hasArgument: Bool
    }

    /// The items that begin with an option: `.It Fl m , Fl -mtu Ar bytes`.
    private func manualItems() throws -> [Item] {
        let text = String(decoding: try contents(of: repositoryPath("docs/man/tapas.1")), as: UTF8.self)
        return text.split(separator: "\n").filter { $0.hasPrefix(".It Fl ") }.map { line in
            let words = line.split(separator: " ").dropFirst()
            var names: [String] = []
            var previous: Substring = ""
            for word in words {
                if previous == "Fl" { names.append(String(word)) }
                previous = word
            }
            return Item(names: names, hasArgument: words.contains("Ar") || words.contains("Cm"))
        }
    }
}

extension String {
    /// The lines between one that begins with some words and one that begins with others.
    fileprivate func components(between first: String, and last: String) -> String? {
        let lines = split(separator: "\n", omittingEmptySubsequences: false)
        guard let start = lines.firstIndex(where: { $0.hasPrefix(first) }),
            let end = lines[start...].firstIndex(where: { $0.hasPrefix(last) })
        else { return nil }
        return lines[start..<end].joined(separator: "\n")
    }

    /// What follows a line, up to the next section.
    fileprivate func components(afterLine line: String) -> String? {
        let lines = split(separator: "\n", omittingEmptySubsequences: false)
        guard let start = lines.firstIndex(where: { $0 == line }) else { return nil }
        let rest = lines[(start + 1)...].prefix { !$0.hasPrefix(".Sh ") }
        return rest.joined(separator: "\n")
    }
}
