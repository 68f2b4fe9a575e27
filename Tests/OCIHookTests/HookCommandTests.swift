// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import OCIHook
import Options
import Testing

@Suite("The command that the hook starts") struct HookCommandTests {
    private static func configuration(_ text: String, path: String = "/etc/tapas/hook.conf") throws(HookError)
        -> HookConfiguration
    {
        try HookConfiguration(parsing: Array(text.utf8), path: path)
    }

    private static func state(_ annotations: [String: String]) throws(HookError) -> ContainerState {
        var state = try ContainerState(parsing: Array(#"{"ociVersion":"1.0","id":"x","pid":9}"#.utf8))
        state.annotations = annotations
        return state
    }

    /// The arguments, or the error in words; nil when the container is skipped.
    private static func arguments(
        _ annotations: [String: String], system: String = "", user: String = ""
    ) throws -> String? {
        do throws(HookError) {
            return try HookCommand.make(
                for: state(annotations), system: configuration(system),
                user: configuration(user, path: "~/.config/tapas/hook.conf"))?.arguments.joined(separator: " ")
        } catch {
            return "\(error)"
        }
    }

    private static let closed = "--config-net --quiet --tcp-ports none --udp-ports none --tcp-ns none --udp-ns none"

    @Test("is closed by default")
    func isClosed() throws {
        #expect(try Self.arguments([:]) == Self.closed + " --no-map-gw")
    }

    @Test("takes options from the annotation, and closes only what they leave open")
    func takesOptions() throws {
        #expect(
            try Self.arguments(["io.tapas.options": "--mtu 1400 -S 'a.example b.example'"])
                == Self.closed + " --no-map-gw --mtu 1400 -S a.example b.example")
        #expect(
            try Self.arguments(["io.tapas.options": "-d -t 8080 --config-net --no-map-gw"])
                == "--udp-ports none --tcp-ns none --udp-ns none -d -t 8080 --config-net --no-map-gw")
    }

    @Test(
        "publishes ports",
        arguments: [
            ("8080:80", "--tcp-ports 8080:80"), ("53/udp", "--udp-ports 53"),
            ("127.0.0.1/8080:80/tcp, 5000-5010", "--tcp-ports 127.0.0.1/8080:80 --tcp-ports 5000-5010"),
        ])
    func publishesPorts(text: String, arguments: String) throws {
        let all = try #require(try Self.arguments(["io.tapas.publish": text]))
        #expect(all.hasSuffix(arguments))
        #expect(all.contains("--tcp-ports none") == !arguments.contains("--tcp-ports"))
        #expect(all.contains("--udp-ports none") == !arguments.contains("--udp-ports"))
    }

    @Test("is skipped where the annotation or a file says so, the annotation first, then the user")
    func isSkipped() throws {
        #expect(try Self.arguments(["io.tapas.enable": "false"]) == nil)
        #expect(try Self.arguments(["io.tapas.enable": "true"], system: "enable = false") != nil)
        #expect(try Self.arguments([:], system: "enable = false") == nil)
        #expect(try Self.arguments([:], system: "enable = false", user: "enable = true") != nil)
        #expect(
            try Self.arguments(["io.tapas.enable": "no"])
                == "annotation io.tapas.enable: 'no' is neither true nor false")
    }

    @Test(
        "a mistake in an annotation is one line that names it",
        arguments: [
            ("io.tapas.options", "'a", "has a single quote without its partner"),
            ("io.tapas.options", "--no-such", "unrecognized option '--no-such'"),
            ("io.tapas.options", "--mtu", "option '--mtu' requires an argument; give BYTES"),
            ("io.tapas.options", "--mtu x", "-m/--mtu 'x': "),
            ("io.tapas.options", "-4 true", "holds 'true', and takes options only"),
            ("io.tapas.options", "-- true", "holds 'true', and takes options only"),
            ("io.tapas.options", "--help", "--help cannot be used in a hook"),
            ("io.tapas.options", "-f", "--foreground cannot be used in a hook"),
            ("io.tapas.options", "-P /x", "--pid cannot be used in a hook"),
            ("io.tapas.publish", "", "holds an empty port specification"),
            ("io.tapas.publish", "80,,81", "holds an empty port specification"),
            ("io.tapas.publish", "eighty", ""),
            ("io.tapas.publish", "80\n81", ""),
        ])
    func aMistake(name: String, text: String, problem: String) throws {
        let line = try #require(try Self.arguments([name: text]))
        #expect(line.hasPrefix("annotation \(name): \(problem)"), "\(line)")
        #expect(!line.contains("\n"))
    }

    @Test(
        "an annotation opens neither the host's loopback nor its files, however it is written",
        arguments: [
            "--map-host-loopback 10.0.2.2", "--map-host 10.0.2.2", "--map-host-loopback=10.0.2.2", "-T 22", "-T22",
            "-4qT auto", "--tcp-ns=all", "-U all", "--host-lo-to-ns-lo", "-l /etc/x", "-p /etc/x", "--log-file /x",
            "--runas 0", "--netns /proc/1/ns/net", "--userns /proc/1/ns/user", "-c /x", "-o 192.0.2.1", "-i eth0",
            "--map-guest-addr 10.0.2.4",
        ])
    func opensNothing(options: String) throws {
        let line = try #require(try Self.arguments(["io.tapas.options": options]))
        #expect(line.hasPrefix("annotation io.tapas.options: --"), "\(line)")
        #expect(line.hasSuffix("is not allowed (allow-options in /etc/tapas/hook.conf can allow it)"), "\(line)")
    }

    @Test("an annotation shows no other interface of the host", arguments: ["-a eth0", "--address=all", "-a %eth0"])
    func showsNoOtherInterface(options: String) throws {
        let line = try #require(try Self.arguments(["io.tapas.options": options]))
        #expect(line.contains("--address takes an interface's addresses, which needs --interface allowed"), "\(line)")
        let open = try Self.arguments(["io.tapas.options": options], system: "allow-options = address interface")
        #expect(open?.hasPrefix("--config-net") == true)
        #expect(try Self.arguments(["io.tapas.options": "-a auto -a 10.0.0.1 -a ll"])?.hasPrefix("--config") == true)
    }

    @Test("every option is decided on: allowed by default, impossible, or for an administrator to allow")
    func everyOption() throws {
        for option in OptionDescription.table {
            let words = option.longName + (option.argument == nil ? "" : "=x")
            let line = try Self.arguments(["io.tapas.options": words]) ?? ""
            let isRefused = line.contains("is not allowed") || line.contains("cannot be used in a hook")
            #expect(isRefused == !AllowedOptions.standard.contains(option.name), "\(option.longName): \(line)")
        }
    }

    @Test("the administrator says what an annotation may use; the user can only narrow that")
    func whatIsAllowed() throws {
        let open = ["io.tapas.options": "--map-host-loopback none -m 1400"]
        #expect(
            try Self.arguments(open, system: "allow-options = map-host-loopback mtu")?.hasPrefix("--config") == true)
        #expect(try Self.arguments(open, system: "allow-options = all")?.hasPrefix("--config-net") == true)
        #expect(
            try Self.arguments(open, system: "allow-options = default, map-host-loopback")?.hasPrefix("--config")
                == true)
        let none = "annotation io.tapas.options: --map-host-loopback is not allowed (allow-options in "
        #expect(try Self.arguments(open, system: "allow-options = none") == none + "/etc/tapas/hook.conf)")
        #expect(
            try Self.arguments(open, system: "allow-options = mtu", user: "allow-options = all")
                == none + "/etc/tapas/hook.conf and ~/.config/tapas/hook.conf)")
        #expect(
            try Self.arguments(open, user: "allow-options = mtu") == none + "~/.config/tapas/hook.conf)")
        #expect(
            try Self.arguments(["io.tapas.publish": "80"], system: "allow-options = mtu")
                == "annotation io.tapas.publish: --tcp-ports is not allowed (allow-options in /etc/tapas/hook.conf)")
    }

    @Test("files give defaults that annotations add to; the user's replace the system's")
    func defaults() throws {
        let system = "# ours\n\noptions = --mtu 1400 --map-host-loopback 10.0.2.2\npublish = 80\n"
        #expect(
            try Self.arguments(["io.tapas.options": "-4"], system: system)
                == "--config-net --quiet --udp-ports none --tcp-ns none --udp-ns none --mtu 1400 "
                + "--map-host-loopback 10.0.2.2 -4 --tcp-ports 80")
        #expect(
            try Self.arguments(["io.tapas.publish": "81"], system: system, user: "options =\r\n")
                == "--config-net --quiet --udp-ports none --tcp-ns none --udp-ns none --no-map-gw --tcp-ports 81")
        #expect(
            try Self.arguments([:], system: "options = --mtu x")?.hasPrefix(
                "options in /etc/tapas/hook.conf: -m/--mtu 'x': ") == true)
    }

    @Test("a namespace that is named takes the place of the container's process")
    func aNamedNamespace() throws {
        let command = try #require(
            try HookCommand.make(
                for: Self.state([:]), system: Self.configuration("options = --netns /run/netns/x"),
                user: HookConfiguration()))
        #expect(command.namesNamespace)
        #expect(command.sources == ["options in /etc/tapas/hook.conf"])
    }

    @Test(
        "a mistake in a file is one line with its place",
        arguments: [
            ("options", "/etc/tapas/hook.conf:1: no KEY = VALUE"),
            ("\n\noptins = x", "/etc/tapas/hook.conf:3: unknown key 'optins'"),
            ("enable = true\nenable = true", "/etc/tapas/hook.conf:2: 'enable' is given twice"),
            ("enable = yes", "/etc/tapas/hook.conf:1: 'yes' is neither true nor false"),
            ("options = 'x", "/etc/tapas/hook.conf:1: options has a single quote"),
            ("allow-options = mtu --mtu", "/etc/tapas/hook.conf:1: '--mtu' is no option of tapas"),
            ("allow-options = m", "/etc/tapas/hook.conf:1: 'm' is no option of tapas"),
        ])
    func aMistakeInAFile(text: String, problem: String) throws {
        let error = try #require(throws: HookError.self) { try Self.configuration(text) }
        #expect("\(error)".hasPrefix(problem), "\(error)")
    }
}
