// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Options
import TestSupport
import Testing

@Suite("Refusals: one line with the option, the value and a remedy")
struct RefusalTests {
    @Test(
        "values",
        arguments: [
            ("--mtu 65522", "0 to 65521"), ("-m x", "-m/--mtu 'x'"), ("-m -1", "'-1'"), ("-m 1e3", "'1e3'"),
            ("-m 01500", "'01500'"), ("-m 99999999999999999999999", "MTU in bytes"), ("-m 1", "IPv4 needs 68"),
            ("-m 67 -4", "IPv4 needs 68"), ("-m 68", "add -4"), ("-m 1279", "add -4"),
            ("-m 1279 -6", "IPv6 needs 1280"),
            ("4711 ls", "'4711' is a process id and 'ls' follows it"), ("--log-size 40959", "40960 to"),
            ("--log-size 0x9FFF", "'0x9FFF'"), ("--log-size 1k", "'1k'"),
            ("--log-size 99999999999999999999", "size in bytes"), ("--log-size -1", "'-1'"),
            ("--stats 0 -f", "number of seconds"), ("--stats x -f", "'x'"), ("--stats 1 42", "add -f"),
            ("--runas :1", "UID:GID"), ("--runas 4294967295", "4294967294"), ("--runas 1:4294967296", "4294967294"),
            ("--runas 1:2:3", "UID:GID"), ("--runas 99999999999999999999999", "UID:GID"), ("--runas -1", "'-1'"),
            ("-F 1", "standard output"), ("-F 2", "standard error"), ("-F -1", "descriptor"),
            ("--ready-fd 2", "3 or more"), ("--ready-fd x", "descriptor"), ("--exit-fd -1", "'-1'"),
            ("--ready-fd 7 --exit-fd 7", "give two"), ("-F 2147483648", "2147483647"), ("-F x", "-F/--fd 'x'"),
            ("-a 1.2.3", "-a/--address '1.2.3'"), ("-a 0.0.0.0", "unspecified"), ("-a ::", "unspecified"),
            ("-a 127.0.0.1", "loopback"), ("-a ::1/64", "loopback"), ("-a 224.0.0.1", "multicast"),
            ("-a ff02::1", "multicast"), ("-a 255.255.255.255", "broadcast"), ("-a 10.0.2.15/33", "1 to 32"),
            ("-a 10.0.2.15/0", "1 to 32"), ("-a 2001:db8::1/129", "1 to 128"), ("-a 10.0.2.15/", "1 to 32"),
            ("-a 10.0.2.15/255.255.255.0", "1 to 32"), ("-a ::ffff:10.0.2.15/96", "97 to 128"),
            ("-a 10.0.2.15/024", "1 to 32"), ("-a /24", "'/24'"), ("-a [10.0.2.15", "no IP address"),
            ("-a %", "%NAME"), ("-a %a/b", "%NAME"), ("-a waytoolonginterface", "neither an address nor"),
            ("-a fe80::1%eth0", "no IP address"),
            ("--native-sockets=x true", "--native-sockets 'x'"), ("--native-sockets=connect, true", "give 'connect'"),
            ("--native-sockets=listen true", "with -t"), ("--native-sockets --no-tcp true", "contradicts --no-tcp"),
            ("--native-sockets --splice-only true", "contradicts --splice-only"), ("--native-sockets 42", "a command"),
            ("--native-sockets --netns-only true", "contradicts --netns-only"),
            ("--mode x", "--mode 'x': no mode; give auto, transparent or opaque"),
            ("--mode transparent", "add -i NAME"), ("--mode transparent -i w -a all", "contradicts -a/--address"),
            ("--mode transparent -i w -g 10.0.0.1", "contradicts -g/--gateway"),
            ("--mode transparent -i w --outbound-if4 e", "contradicts --outbound-if4"),
            ("--mode opaque -g fe80::9", "--mode 'opaque': contradicts -g/--gateway"),
            ("--mode opaque -n 24", "contradicts -n/--netmask"), ("--mode opaque --splice-only", "--splice-only"),
            ("--mode opaque --config-net --no-copy-addrs", "contradicts --no-copy-addrs"),
            ("-n 0", "-n/--netmask '0'"), ("-n 33", "1 to 32"), ("-n 255.0.255.0", "'255.0.255.0'"),
            ("-n 0.0.0.0", "1 to 32"), ("-n x", "1 to 32"), ("-n 0.255.255.255", "1 to 32"),
            ("-g x", "-g/--gateway 'x'"), ("-g 0.0.0.0", "unspecified"), ("-g 127.0.0.1", "loopback"),
            ("-g 255.255.255.255", "broadcast"), ("-g ff02::2", "multicast"), ("-g fe80::1%eth0", "no IP address"),
            ("-o 0.0.0.0", "unspecified"), ("-o 224.0.0.1", "multicast"), ("-o ::1", "loopback"),
            ("-o ::ffff:1.2.3.4", "give it as IPv4"), ("-o ::1.2.3.4", "give it as IPv4"), ("-o ::", "unspecified"),
            ("-o 255.255.255.255", "broadcast"),
            ("-i waytoolonginterface", "1 to 15"), ("-i a/b", "'a/b'"), ("-I .", "'.'"), ("-I ..", "'..'"),
            ("-I a:b", "'a:b'"), ("--outbound-if4 waytoolonginterface", "--outbound-if4 'way"),
            ("--outbound-if6 a/b", "--outbound-if6"),
            ("-M 1:2:3:4:5:6", "six pairs"), ("-M 01:00:00:00:00:00", "must be even"),
            ("-M 00:00:00:00:00:00", "zero address"), ("-M 02-00-00-00-00-01", "six pairs"), ("-M x", "'x'"),
            ("--ns-mac-addr ff:ff:ff:ff:ff:ff", "must be even"),
            ("--ns-mac-addr 9a:55:9a:55:9a:55", "also the gateway's"),
            ("-M 02:00:00:00:00:01 --ns-mac-addr 02:00:00:00:00:01", "also the gateway's"),
            ("-D x", "'none'"), ("--dns-forward 127.0.0.1", "loopback"), ("--dns-forward 0.0.0.0", "unspecified"),
            ("--dns-forward 255.255.255.255", "broadcast"), ("--dns-forward none", "no IP address"),
            ("--dns-host ::", "unspecified"), ("--dns-host 255.255.255.255", "broadcast"),
            ("--map-host-loopback 127.0.0.1", "loopback"), ("--map-host-loopback 0.0.0.0", "unspecified"),
            ("--map-guest-addr ff02::1", "multicast"), ("--map-guest-addr x", "'none'"),
            ("--hold-down x", "0 to 86400"), ("--hold-down -1", "'-1'"), ("--hold-down 1.2345", "seconds"),
            ("--hold-down 1.", "seconds"), ("--hold-down .5", "seconds"), ("--hold-down 86401", "86400"),
            ("--hold-down 99999999999999999999", "86400"), ("--hold-down 18446744073709551615", "86400"),
            ("--netns .", "/run/netns"), ("--netns ..", "/run/netns"),
            ("0", "process id '0'"), ("2147483648", "2147483647"), ("99999999999999999999999", "process id"),
            ("-t 0", "-t/--tcp-ports '^0'"), ("--udp-ns=*/80", "-U/--udp-ns '^*/80'"), ("-t 80,90-80", "'80,^90-80'"),
        ])
    func values(line: String, part: String) throws {
        let error = try #require(usageError(line), "accepted: \(line)")
        #expect(error.message.contains(part), "\(error)")
        #expect(!error.message.contains("\n") && !error.showsUsageHint)
    }

    @Test(
        "contradictions",
        arguments: [
            ("-n 24 -a 10.0.2.15/24", "leave one of them out"), ("-a 10.0.2.15/24 -n 24", "'10.0.2.15/24'"),
            ("-a 2001:db8::1/64 -n 24", "leave one of them out"), ("-a 10.0.2.15/24 -a 2001:db8::1 -n 16", "leave one"),
            ("-a 10.0.2.15/24 -a 10.0.2.16 -n 16", "leave one of them out"),
            ("--splice-only --no-splice", "--splice-only"), ("--no-splice --host-lo-to-ns-lo", "--host-lo-to-ns-lo"),
            ("--netns x true", "operand 'true'"), ("--netns x 42", "operand '42'"),
            ("--netns /a/b -- x", "--netns '/a/b'"),
            ("-t 80 -t none", "another -t/--tcp-ports"), ("-t none -t none", "another -t/--tcp-ports"),
            ("-U 80 -U none", "another -U/--udp-ns"),
            ("--no-copy-routes", "add --config-net"), ("--no-copy-addrs", "add --config-net"),
            ("-t 80 --no-tcp", "--no-tcp"), ("--no-tcp -t auto", "--no-tcp"), ("--no-udp -U 53", "--no-udp"),
            ("-t 80 -t 80", "conflicts with TCP *:80"), ("-t 80 -t 127.0.0.1/80", "conflicts"),
            ("-t auto -t 8080", "conflicts"), ("-t 80,80", "'80,^80'"),
            ("-t ::1/80 -4", "IPv6 is off"), ("-6 -t 127.0.0.1/80", "IPv4 is off"),
        ])
    func contradictions(line: String, part: String) throws {
        let error = try #require(usageError(line), "accepted: \(line)")
        #expect(error.message.contains(part), "\(error)")
        #expect(!error.message.contains("\n"))
    }

    @Test("empty values are refused by name")
    func emptyValues() throws {
        for option in OptionDescription.table where option.argument != nil && !option.isArgumentOptional {
            let error = try #require(usageError([option.longName, "", "true"]), "\(option.longName) '' accepted")
            #expect(error.message.contains(option.displayName), "\(error)")
            #expect(!error.message.contains("\n"))
        }
        #expect(usageError([""])?.message == "command '': empty; give a command, or none for a shell")
    }

    @Test(
        "a path that is not UTF-8 is refused, not repaired", arguments: ["-l", "-P", "-p", "-c", "--netns", "--userns"])
    func pathEncoding(option: String) {
        let path = String(decoding: [0x2F, 0xFF], as: UTF8.self)
        #expect(usageError([option, path])?.message.contains("not valid UTF-8") == true)
    }

    @Test("hostile values neither trap nor reach the terminal as they are")
    func hostileValues() throws {
        let values = [
            String(repeating: "9", count: 10_000), "-9223372036854775808", "18446744073709551616", "\u{1B}[2J\n\r\t",
            String(decoding: [0xFF, 0xFE, 0x80], as: UTF8.self), "\u{202E}", "%n%s", "0x", "0xG", ":", "::", "/", "//",
            "[", "]", "[]", "[]/1", "~", ",", "-", "--", ".", "..", "𝟠𝟘", "１０", " ", "1 2", "e\u{301}", "\u{0}",
        ]
        for option in OptionDescription.table where option.argument != nil {
            for value in values {
                let error = usageError(["\(option.longName)=\(value)", "true"])
                guard let error else { continue }
                let isClean = error.message.unicodeScalars.allSatisfy { $0.value >= 32 && $0.value != 0x202E }
                #expect(isClean, "\(option.longName)")
                #expect(error.message.utf8.count < 1500, "\(option.longName)")
            }
        }
    }

    @Test("no sequence of words traps the parser", arguments: [11, 12, 13] as [UInt64])
    func anyWords(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let options = OptionDescription.table.flatMap { option in
            option.longNames.map { "--\($0)" } + (option.letter.map { ["-\($0)"] } ?? [])
        }
        let values = ["none", "auto", "80", "1.2.3.4/24", "::1", "x", "", "0", "-1", "a b", "42", "eth0", "65536"]
        for _ in 0..<1000 {
            let words = (0..<Int.random(in: 0...8, using: &random)).map { _ in
                switch Int.random(in: 0..<5, using: &random) {
                case 0: String(decoding: random.bytes(upTo: 12), as: UTF8.self)
                case 1: values.randomElement(using: &random) ?? ""
                case 2:
                    (options.randomElement(using: &random) ?? "") + "=" + (values.randomElement(using: &random) ?? "")
                default: options.randomElement(using: &random) ?? ""
                }
            }
            if let error = usageError(words) {
                #expect(!error.message.isEmpty && !error.message.contains("\n"), "seed \(seed): \(words)")
            }
        }
    }
}
