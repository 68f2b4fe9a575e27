// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import Policy
import TestSupport
import Testing

@Suite("egress rules: the grammar")
struct RuleReaderTests {
    @Test(
        "are read, and printed in one form",
        arguments: [
            ("192.0.2.1", "192.0.2.1"), ("192.0.2.0/24", "192.0.2.0/24"),
            ("tcp:192.0.2.0/24:443", "tcp:192.0.2.0/24:443"),
            ("0.0.0.0/0", "0.0.0.0/0"), ("192.0.2.1/32:22", "192.0.2.1:22"), ("icmp:192.0.2.1", "icmp:192.0.2.1"),
            ("2001:db8::1", "[2001:db8::1]"), ("[2001:db8::1]", "[2001:db8::1]"), ("::/0", "[::/0]"),
            ("2001:db8::/32", "[2001:db8::/32]"), ("2001:db8::/32:443", "[2001:db8::/32]:443"),
            ("[2001:db8::]/32:443", "[2001:db8::/32]:443"), ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("tcp:[2001:db8::1]:80,443", "tcp:[2001:db8::1]:80,443"), ("udp:2001:db8::1", "udp:[2001:db8::1]"),
            // All of it is the address: ports need brackets.
            ("2001:db8::1:443", "[2001:db8::1:443]"), ("::ffff:192.0.2.1", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:25", "192.0.2.1:25"),
            ("example.org", "example.org"), ("EXAMPLE.org.", "example.org"), ("*.Example.org", "*.example.org"),
            ("*.org:443", "*.org:443"), ("tcp:example.org:443,8000-8100", "tcp:example.org:443,8000-8100"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"), ("_acme.example.org", "_acme.example.org"),
            ("registry.", "registry."), ("registry.:5000", "registry.:5000"),
            ("host.example:1-65535", "host.example:1-65535"),
            ("private", "private"), ("host:22", "host:22"), ("metadata", "metadata"), ("udp:dns", "udp:dns"),
            ("any", "any"), ("any:443-443", "any:443"), ("icmp:any", "icmp:any"), ("tcp.example:80", "tcp.example:80"),
        ])
    func areReadAndPrinted(text: String, printed: String) throws {
        let rule = try PolicyRule(.allow, specification: text, place: "--allow")
        #expect(rule.specification == printed)
        #expect(rule.description == "allow \(printed)")
        #expect(try PolicyRule(.allow, specification: printed, place: "--allow") == rule)
    }

    @Test(
        "are refused with one line that names the remedy",
        arguments: [
            ("", "no destination"), ("tcp:", "no destination"), (":443", "neither an address"),
            ("tcp::443", "neither an address"),
            ("192.0.2.256", "neither an address"), ("1.2.3", "neither an address"), ("0x7f.1", "neither an address"),
            ("127.0.0.0x1", "neither an address"), ("192.0.2.1/33", "write ADDRESS/LENGTH"),
            ("192.0.2.1/", "write ADDRESS/LENGTH"), ("192.0.2.5/24", "write 192.0.2.0/24, or 192.0.2.5"),
            ("[2001:db8::1]/64", "write 2001:db8::/64"), ("example.org/24", "write ADDRESS/LENGTH"),
            ("2001:db8:1:2:3:4:5:6:443", "write [ADDRESS]:PORTS"), ("example.org:80:90", "write [ADDRESS]:PORTS"),
            ("[2001:db8::1", "without ']'"), ("[example.org]:80", "only IPv6"), ("[::1]443", "ports follow a colon"),
            ("[192.0.2.1]:80", "only IPv6"), ("[fe80::1%eth0]", "no prefix"), ("fe80::1%eth0", "not an IPv6"),
            ("privat", "write 'privat.' for"), ("PRIVATE", "is none of"), ("localhost", "write 'localhost.'"),
            ("*", "write 'any'"), ("a*.example.org", "first labels"), ("*.*.org", "first labels"),
            ("www.*.org", "first labels"), ("a..b", "neither an address"), ("*.", "neither an address"),
            (".", "neither an address"), ("a b", "blanks"), ("b\u{fc}cher.example", "xn--"), ("a\u{0}.org", "blanks"),
            ("example.org:", "no port"), ("example.org:0", "port 0"), ("example.org:65536", "no port"),
            ("example.org:443,", "no port"), ("example.org:90-80", "write 80-90"), ("example.org:-80", "no port"),
            ("example.org:https", "no port"), ("example.org:1-2-3", "no port"), ("example.org:+1", "no port"),
            ("icmp:example.org:80", "ICMP has no ports"), ("sctp:example.org", "is none of"),
            ("tcp:udp:example.org", "is none of"), (String(repeating: "a", count: 64) + ".org", "neither an address"),
            (String(repeating: "a.", count: 127) + "org", "neither an address"),
        ])
    func areRefused(text: String, remedy: String) throws {
        let error = try #require(throws: PolicyError.self) {
            try PolicyRule(.deny, specification: text, place: "--deny")
        }
        let line = error.description
        #expect(line.hasPrefix("--deny '"))
        #expect(line.contains(remedy), "\(line)")
        #expect(!line.unicodeScalars.contains { $0.value < 0x20 })
    }

    @Test(
        "of any text are read or refused, and what is read is printed and read again", arguments: 0..<8 as Range<UInt64>
    )
    func ofAnyText(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let words = [
            "tcp:", "udp:", "icmp:", "[", "]", ":", "::", ".", "*", "*.", "/", "24", "128", "192.0.2.0", "2001:db8::",
            "example.org", "private", "dns", "any", "host", "443", "-", ",", "0", "65536", "a", "\u{0}", "\u{e9}", " ",
        ]
        var accepted = 0
        for _ in 0..<5000 {
            let text = (0..<Int.random(in: 1...5, using: &random)).map { _ in
                words.randomElement(using: &random) ?? ""
            }.joined()
            guard let rule = try? PolicyRule(.allow, specification: text, place: "--allow") else { continue }
            accepted += 1
            let again = try PolicyRule(.allow, specification: rule.specification, place: "--allow")
            #expect(again == rule, "seed \(seed): \(text)")
        }
        #expect(accepted > 50)
    }

    // MARK: Files

    private func read(_ text: String) throws(PolicyError) -> [String] {
        try RuleFile.read(Array(text.utf8), name: "egress.rules").map(\.description)
    }

    @Test("of a file are read with comments, blanks and any line ends")
    func ofAFileAreRead() throws {
        let text =
            "# packages\n\nallow pypi.org:443 # the index\r\n\t deny\t any:25\n  #deny any\nallow *.pythonhosted.org"
        #expect(try read(text) == ["allow pypi.org:443", "deny any:25", "allow *.pythonhosted.org"])
        #expect(try read("") == [])
    }

    @Test(
        "of a file are refused whole, with the line",
        arguments: [
            ("allow a.org\npermit b.org\n", "egress.rules:2: 'permit': a line begins with 'allow', 'deny' or '#'"),
            ("allow\n", "egress.rules:1: 'allow': no destination follows; write 'allow SPEC'"),
            ("\n\nallow a.org b.org", "egress.rules:3: 'allow a.org b.org': one SPEC a line; comments begin with #"),
            (
                "deny a.org:0\nallow x\nallow y",
                "egress.rules:1: 'a.org:0': port 0 does not exist; ports are 1 to 65535 "
                    + "(and 2 more lines)"
            ),
            ("allow a.org#b", "neither an address"), ("allow a\u{1b}[2J.org", "\\u{1b}"),
        ])
    func ofAFileAreRefused(text: String, line: String) throws {
        let error = try #require(throws: PolicyError.self) { try read(text) }
        #expect(error.description.contains(line), "\(error)")
    }

    @Test("of a file of any bytes are read or refused", arguments: 0..<4 as Range<UInt64>)
    func ofAFileOfAnyBytes(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        for _ in 0..<500 {
            var bytes = random.bytes(upTo: 200)
            if random.chance(50) { bytes = Array("allow ".utf8) + bytes }
            do throws(PolicyError) {
                for rule in try RuleFile.read(bytes, name: "f") { #expect(!rule.specification.isEmpty) }
            } catch {
                #expect(error.description.hasPrefix("f:"))
                #expect(!error.description.contains("\n"))
            }
        }
    }

    @Test("of a file are bounded in number and length")
    func ofAFileAreBounded() {
        let many = Array(String(repeating: "deny any\n", count: RuleFile.maximumCount + 1).utf8)
        #expect(throws: PolicyError.self) { try RuleFile.read(many, name: "f") }
        #expect((try? RuleFile.read(Array(many.dropLast(9)), name: "f"))?.count == RuleFile.maximumCount)
        let long = [UInt8](repeating: UInt8(ascii: "#"), count: RuleFile.maximumLength + 1)
        #expect(throws: PolicyError.self) { try RuleFile.read(long, name: "f") }
    }
}
