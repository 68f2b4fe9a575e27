// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options
import Testing

@Suite("Words to options (getopt_long(3))")
struct GetoptTests {
    @Test(
        "says in getopt's words what cannot be read",
        arguments: [
            (["--x"], "unrecognized option '--x'"),
            (["--confg-net"], "unrecognized option '--confg-net'; did you mean '--config-net'?"),
            (["--no-monitro=1"], "unrecognized option '--no-monitro=1'; did you mean '--no-monitor'?"),
            (["--gatway", "1"], "unrecognized option '--gatway'; did you mean '--gateway'?"),
            (["--x=3"], "unrecognized option '--x=3'"),
            (["-x"], "invalid option -- 'x'"),
            (["-qx"], "invalid option -- 'x'"),
            (["-?"], "invalid option -- '?'"),
            (["-:"], "invalid option -- ':'"),
            (["-W", "foo"], "invalid option -- 'W'"),
            (["-\u{E9}"], "invalid option -- '\u{FFFD}'"),
            (["--mtu"], "option '--mtu' requires an argument; give BYTES"),
            (["--mt"], "option '--mtu' requires an argument; give BYTES"),
            (["-m"], "option requires an argument -- 'm'; give BYTES"),
            (["-qm"], "option requires an argument -- 'm'; give BYTES"),
            (["--quiet=1"], "option '--quiet' doesn't allow an argument"),
            (["--dns-"], "option '--dns-' is ambiguous; possibilities: '--dns-forward' '--dns-host'"),
            (
                ["--tcp=80"], "option '--tcp=80' is ambiguous; possibilities: '--tcp-ports' '--tcp-ns'"
            ),
            (["--"] + ["--x"] + ["--mtu"], nil), (["--="], "unrecognized option '--='"),
            (["--map-guest-addresses", "1"], "unrecognized option '--map-guest-addresses'"),
        ] as [([String], String?)])
    func messages(words: [String], expected: String?) {
        let error = usageError(words)
        #expect(error?.message == expected)
        #expect(expected == nil || error?.showsUsageHint == true)
    }

    @Test("takes all forms of an argument", arguments: ["-m 1400", "-m1400", "--mtu 1400", "--mtu=1400", "--mt=1400"])
    func argumentForms(line: String) throws {
        #expect(try invocation(line).configuration.mtu == 1400)
    }

    @Test("takes clusters of letters")
    func clusters() throws {
        let found = try invocation("-fq4m1400")
        #expect(found.foreground && found.verbosity == .quiet)
        #expect(found.configuration.families == [.v4])
        #expect(found.configuration.mtu == 1400)
    }

    @Test("abbreviations that pasta takes stay good: our own options make none ambiguous")
    func abbreviations() throws {
        #expect(try !invocation("--no-m").configuration.gatewayMapsToHost)
        #expect(try !invocation("--no-map").configuration.gatewayMapsToHost)
        #expect(try !invocation("--no-mon").monitorsHost)
        #expect(try invocation("--hold 3").holdDown == .seconds(3))
        #expect(try invocation("--hostn=x").hostname == "x")
    }

    @Test("stops at the first operand and at --, and never looks beyond")
    func stops() throws {
        #expect(try invocation("grep -F x f").mode == .spawn(command: ["grep", "-F", "x", "f"]))
        #expect(try invocation("true --vhost-user").mode == .spawn(command: ["true", "--vhost-user"]))
        #expect(try invocation("-f -- -q --version").mode == .spawn(command: ["-q", "--version"]))
        #expect(try invocation("sh --help").mode == .spawn(command: ["sh", "--help"]))
        #expect(try invocation("- -q").mode == .spawn(command: ["-", "-q"]))
        #expect(try invocation("--").mode == .spawn(command: []))
        #expect(try invocation("-- -- x").mode == .spawn(command: ["--", "x"]))
        #expect(try invocation("-q true -f").verbosity == .quiet)
        #expect(try !invocation("-q true -f").foreground)
    }

    @Test("tells where the command begins", arguments: [("-q -f true a b", 3), ("-- x", 2), ("true", 1), ("-q", 2)])
    func operandIndex(line: String, index: Int) throws {
        #expect(try invocation(line).operandIndex == index)
    }

    @Test("parses empty and single-word argument lists")
    func empty() throws {
        #expect(try parse(arguments: []) == parse(arguments: []))
        #expect(try invocation("").mode == .spawn(command: []))
    }

    @Test("help, version and capabilities act when they are reached")
    func immediate() throws {
        #expect(try parseLine("--host-lo-to-ns-lo --version") == .version)
        #expect(try parseLine("-h --x") == .help)
        #expect(try parseLine("--help") == .help)
        #expect(try parseLine("--version --mtu x") == .version)
        #expect(try parseLine("--print-capabilities") == .printCapabilities)
        // What only the whole line tells is not looked at.
        #expect(try parseLine("--no-splice --splice-only --version") == .version)
        #expect(usageError("--x --version")?.message == "unrecognized option '--x'")
        #expect(usageError("--mtu x --version")?.message.hasPrefix("-m/--mtu 'x'") == true)
        #expect(usageError("--mtu x --x")?.message.hasPrefix("-m/--mtu 'x'") == true)
        #expect(try parse(arguments: ["/usr/bin/passt", "--version"]) == .version)
    }

    @Test("parses many times at once: the state of getopt is taken in turns")
    func parallel() async throws {
        await withTaskGroup(of: Bool.self) { group in
            for number in 1500..<1700 {
                group.addTask {
                    let outcome = try? parseWords(["-qf", "-m", "\(number)", "--", "cmd", "\(number)"])
                    guard case .run(let found)? = outcome else { return false }
                    return found.configuration.mtu == UInt32(number)
                        && found.mode == .spawn(command: ["cmd", "\(number)"])
                }
                group.addTask {
                    usageError(["-q", "--bad-\(number)"])?.message == "unrecognized option '--bad-\(number)'"
                }
            }
            for await isRight in group { #expect(isRight) }
        }
    }
}
