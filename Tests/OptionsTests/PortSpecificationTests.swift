// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options
import TestSupport
import Testing

/// The ephemeral ports of the manual's examples.
let ephemeral = Port(32768)...Port(60999)

/// The rules of a specification, one line each; an error's text would be a line that no expectation has.
private func rules(
    _ text: String, _ direction: ForwardDirection = .inbound, _ transport: TransportProtocol = .tcp,
    families: Set<AddressFamily> = [.v4, .v6]
) -> [String] {
    do {
        return try PortSpecification.parse(
            text, direction: direction, transport: transport, families: families, ephemeralRange: ephemeral
        ).map(\.description)
    } catch {
        return ["refused: \(error)"]
    }
}

private func refusal(
    _ text: String, _ direction: ForwardDirection = .inbound, families: Set<AddressFamily> = [.v4, .v6]
) -> PortSpecificationError? {
    do {
        _ = try PortSpecification.parse(
            text, direction: direction, transport: .tcp, families: families, ephemeralRange: ephemeral)
        return nil
    } catch {
        return error
    }
}

@Suite("Port specifications (tapas(1), \"Port specifications\")")
struct PortSpecificationTests {
    @Test(
        "accepts every example of the manual",
        arguments: [
            ("8080", ["TCP *:8080 => 8080"]),
            ("8080:80", ["TCP *:8080 => 80"]),
            ("8080,8081", ["TCP *:8080 => 8080", "TCP *:8081 => 8081"]),
            ("2000-2010:3000-3010", ["TCP *:2000-2010 => 3000-3010"]),
            ("2000-3000,~2500-2600", ["TCP *:2000-2499 => 2000-2499", "TCP *:2601-3000 => 2601-3000"]),
            ("~2500-2600,2000-3000", ["TCP *:2000-2499 => 2000-2499", "TCP *:2601-3000 => 2601-3000"]),
            (
                "2000-3000:4000-5000,~2500-2600",
                ["TCP *:2000-2499 => 4000-4499", "TCP *:2601-3000 => 4601-5000"]
            ),
            ("127.0.0.1/8080", ["TCP 127.0.0.1:8080 => 8080"]),
            ("[127.0.0.1]/8080", ["TCP 127.0.0.1:8080 => 8080"]),
            ("::ffff:127.0.0.1/8080", ["TCP 127.0.0.1:8080 => 8080"]),
            ("::1/8080", ["TCP [::1]:8080 => 8080"]),
            ("[::1]/8080", ["TCP [::1]:8080 => 8080"]),
            ("192.0.2.10%eth0/8080", ["TCP 192.0.2.10%eth0:8080 => 8080"]),
            ("%eth0/8080", ["TCP *%eth0:8080 => 8080"]),
            ("*%eth0/8080", ["TCP *%eth0:8080 => 8080"]),
            ("fe80::1%eth0/8080", ["TCP [fe80::1]%eth0:8080 => 8080"]),
            ("*/8080", ["TCP *:8080 => 8080"]),
            ("/8080", ["TCP *:8080 => 8080"]),
            ("0.0.0.0/5000:192.0.2.5/6000", ["TCP 0.0.0.0:5000 => 192.0.2.5:6000"]),
            ("0.0.0.0/5000:192.0.2.5", ["TCP 0.0.0.0:5000 => 192.0.2.5:5000"]),
            ("::/5000:2001:db8::5/6000", ["TCP [::]:5000 => [2001:db8::5]:6000"]),
            ("[::]/5000:[2001:db8::5]/6000", ["TCP [::]:5000 => [2001:db8::5]:6000"]),
            ("[::]/5000:[2001:db8::5]", ["TCP [::]:5000 => [2001:db8::5]:5000"]),
            (
                "127.0.0.6/all:192.0.2.6",
                [
                    "TCP 127.0.0.6:1-32767 => 192.0.2.6:1-32767 (best effort)",
                    "TCP 127.0.0.6:61000-65535 => 192.0.2.6:61000-65535 (best effort)",
                ]
            ),
            ("all", ["TCP *:1-32767 => 1-32767 (best effort)", "TCP *:61000-65535 => 61000-65535 (best effort)"]),
            (
                "~2000-2010",
                [
                    "TCP *:1-1999 => 1-1999 (best effort)", "TCP *:2011-32767 => 2011-32767 (best effort)",
                    "TCP *:61000-65535 => 61000-65535 (best effort)",
                ]
            ),
            ("auto", ["TCP *:1-32767 => 1-32767 (auto)", "TCP *:61000-65535 => 61000-65535 (auto)"]),
            ("::1/auto", ["TCP [::1]:1-32767 => 1-32767 (auto)", "TCP [::1]:61000-65535 => 61000-65535 (auto)"]),
            ("8000-8010,auto", ["TCP *:8000-8010 => 8000-8010 (auto)"]),
            ("auto,8000-8010", ["TCP *:8000-8010 => 8000-8010 (auto)"]),
            (
                "auto,~8080",
                [
                    "TCP *:1-8079 => 1-8079 (auto)", "TCP *:8081-32767 => 8081-32767 (auto)",
                    "TCP *:61000-65535 => 61000-65535 (auto)",
                ]
            ),
            ("all,~1-60000", ["TCP *:61000-65535 => 61000-65535 (best effort)"]),
            ("all,auto,~1-60000", ["TCP *:61000-65535 => 61000-65535 (auto)"]),
            ("40000", ["TCP *:40000 => 40000"]),
            ("65535", ["TCP *:65535 => 65535"]),
            ("80-90,~80-90", []),
            ("none", []),
            ("0.0.0.0/80:0.0.0.0", ["TCP 0.0.0.0:80 => 80"]),
            ("80:0.0.0.0/90", ["TCP *:80 => 90"]),
            ("::/80:0.0.0.0/90", ["TCP [::]:80 => 90"]),
            ("all:::", ["TCP *:1-32767 => 1-32767 (best effort)", "TCP *:61000-65535 => 61000-65535 (best effort)"]),
            ("~1-100,~50-200,~65000-65535,150-250", ["TCP *:201-250 => 201-250"]),
            ("1-65535,~1,~65535", ["TCP *:2-65534 => 2-65534"]),
            ("%this-has-15-chr/80", ["TCP *%this-has-15-chr:80 => 80"]),
        ] as [(String, [String])])
    func acceptsEveryExample(text: String, expected: [String]) {
        #expect(rules(text) == expected)
    }

    @Test(
        "refuses what the manual refuses, and points at it",
        arguments: [
            ("", .syntax, ""), (",", .syntax, ""), ("80,", .syntax, ""), ("8080:", .syntax, ""),
            ("8080-", .syntax, ""), ("abc", .syntax, "abc"), ("8080 ", .syntax, "8080 "), ("-5", .syntax, ""),
            ("1.2.3/80", .syntax, "1.2.3"),
            ("127.0.0.1", .syntax, "127.0.0.1"), ("127.0.0.1/", .syntax, ""), ("127.0.0.1:80", .syntax, "127.0.0.1"),
            ("::1", .syntax, "::1"), ("2001:db8::1", .targetNeedsAddress, "db8::1"), ("[::1]", .syntax, "[::1]"),
            ("none,80", .noneNotAlone, "none"), ("80,none", .noneNotAlone, "none"),
            ("127.0.0.1/none", .noneNotAlone, "none"),
            ("90-80", .range, "90-80"), ("65536", .range, "65536"), ("2000-2010:3000", .range, "3000"),
            ("60000-60010:65530-65540", .range, "65540"), ("99999999999999999999", .range, "99999999999999999999"),
            ("80:3000-3001", .range, "3000-3001"),
            ("0", .portZero, "0"), ("0-10", .portZero, "0"), ("8080:0", .portZero, "0"), ("~0-5", .portZero, "0"),
            ("auto:192.0.2.5", .targetNotAllowed, "192.0.2.5"), ("~80:90", .targetNotAllowed, "90"),
            ("0.0.0.0/all:192.0.2.5/80", .targetNotAllowed, "80"), ("all:80", .targetNotAllowed, "80"),
            ("all:192.0.2.5/80", .targetNotAllowed, "80"),
            ("5000:192.0.2.5/6000", .targetNeedsAddress, "192.0.2.5"),
            ("all:192.0.2.5", .targetNeedsAddress, "192.0.2.5"),
            ("%eth0/5000:192.0.2.5", .targetNeedsAddress, "192.0.2.5"),
            ("0.0.0.0/5000:2001:db8::5/6000", .familyMismatch, "2001:db8::5"),
            ("::/80:192.0.2.1", .familyMismatch, "192.0.2.1"),
            ("0.0.0.0/80:224.0.0.1", .multicastTarget, "224.0.0.1"),
            ("0.0.0.0/80:255.255.255.255", .multicastTarget, "255.255.255.255"),
            ("::/80:ff02::1/80", .multicastTarget, "ff02::1"),
            ("%waytoolonginterface/80", .interfaceName, "waytoolonginterface"),
            ("%./80", .interfaceName, "."), ("%../80", .interfaceName, ".."), ("%/80", .interfaceName, ""),
            ("127.0.0.1%e th/80", .interfaceName, "e th"),
            ("80,80", .conflict, "80"), ("80-90,85-95", .conflict, "85-95"),
            // Digits only: upstream's tolerance of signs, blanks and zeros is not copied.
            ("+80", .syntax, "+80"), (" 80", .syntax, " 80"), ("080", .syntax, "080"), ("0x50", .syntax, "0x50"),
            // Upstream ignores `all` here.
            ("8000,all", .mixed, "all"), ("all,8000", .mixed, "all"),
            ("127.0.0.1/80,127.0.0.2/81", .syntax, "127.0.0.2"), ("80,::1/81", .syntax, "::1"),
            ("127.0.0.1/all:192.0.2.1,all:192.0.2.2", .conflict, "all:192.0.2.2"),
            ("80-90-100", .syntax, "90-100"), ("80:90:100", .syntax, "90:100"), ("80/90", .syntax, "80"),
            ("[127.0.0.1/80", .syntax, "[127.0.0.1"), ("0.0.0.0/80:[192.0.2.1/80", .syntax, "[192.0.2.1"),
            ("80,,81", .syntax, ""), ("~", .syntax, ""), ("~~80", .syntax, "~80"), ("auto:", .targetNotAllowed, ""),
            ("8080\u{FFFD}", .syntax, "8080\u{FFFD}"), ("８０", .syntax, "８０"), ("\n", .syntax, "\n"),
        ] as [(String, PortSpecificationError.Kind, String)])
    func refuses(text: String, kind: PortSpecificationError.Kind, part: String) throws {
        let error = try #require(refusal(text), "accepted: \(rules(text))")
        #expect(error.kind == kind, "\(error)")
        #expect(error.offendingPart == part, "\(error)")
        #expect(error.specification == text)
    }

    @Test("the message is one line with the place marked and a reason")
    func message() throws {
        #expect(
            refusal("2000-2010:3000")?.description
                == "'2000-2010:^3000': 11 ports cannot go to 1; ranges must be equally wide")
        #expect(refusal("80,")?.description == "'80,^': a port is missing here")
        #expect(refusal("5000:192.0.2.5/6000")?.reason.contains("begin with '0.0.0.0/'") == true)
        #expect(refusal("5000:2001:db8::5/0")?.kind == .portZero)
        let hostile = try #require(refusal("80\n\u{1B}[2J"))
        #expect(!hostile.description.contains("\n") && !hostile.description.contains("\u{1B}"))
        let long = try #require(refusal(String(repeating: "80,", count: 50_000)))
        #expect(long.description.utf8.count < 400)
    }

    @Test(
        "narrows the wildcard to the only family, and refuses addresses of the other",
        arguments: [
            (.v4, "8080", ["TCP 0.0.0.0:8080 => 8080"]), (.v6, "8080", ["TCP [::]:8080 => 8080"]),
            (.v4, "*%eth0/8080", ["TCP 0.0.0.0%eth0:8080 => 8080"]),
            (.v4, "5000:192.0.2.5/6000", ["TCP 0.0.0.0:5000 => 192.0.2.5:6000"]),
            (.v4, "127.0.0.1/80", ["TCP 127.0.0.1:80 => 80"]),
        ] as [(AddressFamily, String, [String])])
    func narrows(family: AddressFamily, text: String, expected: [String]) {
        #expect(rules(text, families: [family]) == expected)
    }

    @Test("refuses addresses of a family that is off")
    func familyOff() {
        #expect(refusal("::1/80", families: [.v4])?.kind == .familyDisabled)
        #expect(refusal("127.0.0.1/80", families: [.v6])?.kind == .familyDisabled)
        #expect(refusal("0.0.0.0/80", families: [.v6])?.offendingPart == "0.0.0.0")
    }

    @Test(
        "from the namespace takes neither a listening address nor a target address",
        arguments: [
            ("*/80", .bindNotAllowed), ("/80", .bindNotAllowed), ("127.0.0.1/80", .bindNotAllowed),
            ("%lo/80", .bindNotAllowed), ("80:127.0.0.1/80", .targetNeedsAddress),
            ("all:127.0.0.1", .targetNeedsAddress), ("1.2.3/80", .syntax),
        ] as [(String, PortSpecificationError.Kind)])
    func outboundRefusals(text: String, kind: PortSpecificationError.Kind) {
        #expect(refusal(text, .outbound)?.kind == kind)
    }

    @Test("from the namespace takes ports")
    func outbound() throws {
        #expect(rules("5201", .outbound) == ["TCP *:5201 => 5201"])
        #expect(rules("80:8080,~9,auto", .outbound, .udp) == ["UDP *:80 => 8080 (auto)"])
        let rule = try #require(
            PortSpecification.parse("1", direction: .outbound, transport: .udp, families: [.v4]).first)
        #expect(rule.direction == .outbound)
        #expect(rule.transport == .udp)
        #expect(rule.address == .v4(.unspecified))
    }

    @Test("leaves out whatever the ephemeral range is")
    func ephemeralRanges() throws {
        func lines(_ range: ClosedRange<Port>) throws -> [String] {
            try PortSpecification.parse("all", direction: .inbound, transport: .tcp, ephemeralRange: range)
                .map { "\($0.first)-\($0.last)" }
        }
        #expect(try lines(Port(49152)...Port(65535)) == ["1-49151"])
        #expect(try lines(Port(1)...Port(65535)) == [])
        #expect(try lines(Port(0)...Port(65535)) == [])
        #expect(try lines(Port(0)...Port(0)) == ["1-65535"])
        #expect(try lines(Port(1)...Port(1023)) == ["1024-65535"])
        #expect(try lines(Port(65535)...Port(65535)) == ["1-65534"])
    }

    @Test("the default's rules are those of auto")
    func automatic() throws {
        for families: Set<AddressFamily> in [[.v4], [.v6], [.v4, .v6]] {
            #expect(
                try PortSpecification.automatic(
                    direction: .outbound, transport: .udp, families: families, ephemeralRange: ephemeral)
                    == PortSpecification.parse(
                        "auto", direction: .outbound, transport: .udp, families: families, ephemeralRange: ephemeral))
        }
    }

    @Test("a specification has at most 255 rules")
    func ruleLimit() throws {
        func odd(_ count: Int) -> String { (0..<count).map { String(2 * $0 + 1) }.joined(separator: ",") }
        #expect(rules(odd(255)).count == 255)
        #expect(refusal(odd(256))?.kind == .tooManyRules)
        #expect(refusal("all," + (0..<256).map { "~\(2 * $0 + 1)" }.joined(separator: ","))?.kind == .tooManyRules)
    }
}

@Suite("Ephemeral ports (ip(7), ip_local_port_range)")
struct EphemeralRangeTests {
    @Test("reads the kernel's two numbers")
    func reads() {
        #expect(EphemeralRange.parse("32768\t60999\n") == Port(32768)...Port(60999))
        #expect(EphemeralRange.parse("1 1") == Port(1)...Port(1))
    }

    @Test("refuses anything else", arguments: ["", "1", "2 1", "1 65536", "a b", "1 2 3", "-1 5"])
    func refuses(text: String) {
        #expect(EphemeralRange.parse(text) == nil)
    }
}
