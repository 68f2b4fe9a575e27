// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options
import Testing

@Suite("Options to an invocation")
struct InvocationTests {
    @Test("a bare command line is a shell with pasta's defaults")
    func defaults() throws {
        let found = try invocation("")
        #expect(found.mode == .spawn(command: []))
        #expect(found.configuration == Configuration())
        #expect(found.configuration.mtu == 65520)
        #expect(found.logSize == 1_048_576)
        #expect(found.verbosity == .standard && !found.foreground && found.quitsWithNamespace)
        #expect(found.monitorsHost && found.holdDown == .seconds(2))
        #expect(found.forwards.isEmpty && found.defaultedForwards == Set(Invocation.ForwardOption.allCases))
        #expect(found.disabledFeatures.isEmpty && found.warnings.isEmpty)
        #expect(found.splicesInbound && !found.spliceOnly && !found.hostLoopbackToNamespaceLoopback)
        #expect(found.searchDomains == nil && found.runAsUser == nil && found.virtualMachine == nil)
    }

    @Test(
        "the operands and --netns choose the mode",
        arguments: [
            ("10", .attach(pid: 10)), ("2147483647", .attach(pid: .max)), ("-- 10", .attach(pid: 10)),
            ("./10 20", .spawn(command: ["./10", "20"])), ("0x10", .spawn(command: ["0x10"])),
            ("+10", .spawn(command: ["+10"])), ("10a", .spawn(command: ["10a"])),
            ("--netns blue", .attachPath("/run/netns/blue")), ("--netns ./blue", .attachPath("./blue")),
            ("--netns /proc/self/fd/0", .attachPath("/proc/self/fd/0")),
            ("--netns a --netns b", .attachPath("/run/netns/b")), ("--netns a --", .attachPath("/run/netns/a")),
        ] as [(String, Invocation.Mode)])
    func modes(line: String, mode: Invocation.Mode) throws {
        #expect(try invocation(line).mode == mode)
    }

    @Test("knows which namespace files to join")
    func namespaces() throws {
        let process = try invocation("42")
        #expect(process.networkNamespacePath == "/proc/42/ns/net")
        #expect(process.joinedUserNamespacePath == "/proc/42/ns/user")
        #expect(process.goesToBackground)
        #expect(try !invocation("-f 42").goesToBackground)
        #expect(try !invocation("true").goesToBackground)
        #expect(try invocation("--netns-only 42").joinedUserNamespacePath == nil)
        #expect(try invocation("--userns /u 42").joinedUserNamespacePath == "/u")
        #expect(try invocation("--netns n").joinedUserNamespacePath == nil)
        #expect(try invocation("--netns n --userns /u").joinedUserNamespacePath == "/u")
        // The last of these two wins.
        let last = try invocation("--userns /u --netns-only 42")
        #expect(last.netnsOnly && last.userNamespacePath == nil)
        let first = try invocation("--netns-only --userns /u 42")
        #expect(!first.netnsOnly && first.userNamespacePath == "/u")
    }

    @Test(
        "the last of -q, -d and --trace counts",
        arguments: [
            ("-q", .quiet), ("-d", .debug), ("--trace", .trace), ("-d -q", .quiet), ("-q -d", .debug),
            ("--trace -q", .quiet), ("-q --trace", .trace), ("--trace -d", .trace), ("--quiet --debug", .debug),
            ("-v", .verbose), ("-v -d", .debug), ("-d -v", .debug), ("-q -v", .verbose),
        ] as [(String, Invocation.Verbosity)])
    func verbosity(line: String, expected: Invocation.Verbosity) throws {
        #expect(try invocation(line).verbosity == expected)
    }

    @Test("process and logging options")
    func process() throws {
        let found = try invocation(
            "-f -l /l --log-size 0xA000 -c /c -p /p -P /P --stats 3 --chroot-fallback --runas 1000:010 true")
        #expect(found.foreground && found.logFile == "/l" && found.logSize == 40960)
        #expect(found.controlPath == "/c" && found.capturePath == "/p" && found.pidFile == "/P")
        #expect(found.statsInterval == .seconds(3) && found.usesChrootFallback)
        #expect(found.runAsUser == .id(1000) && found.runAsGroup == .id(8))
        #expect(try invocation("--no-control").disablesControl && !invocation("-c /c").disablesControl)
        #expect(try invocation("-c /c --no-control").controlPath == nil)
        let named = try invocation("--runas daemon:adm")
        #expect(named.runAsUser == .name("daemon") && named.runAsGroup == .name("adm"))
        #expect(try invocation("--runas 0x10").runAsUser == .id(16))
        #expect(try invocation("--runas 0x10").runAsGroup == nil)
        #expect(try invocation("--stats 1 -f 42").statsInterval == .seconds(1))
    }

    @Test("a deprecated option is accepted with a warning")
    func deprecated() throws {
        #expect(try invocation("-e").warnings == ["-e/--stderr is deprecated and has no effect"])
        #expect(try invocation("--no-copy-routes --no-copy-addrs --config-net").warnings.count == 2)
    }

    @Test("addresses add up; of gateways and outbound addresses the last of each family wins")
    func addresses() throws {
        let found = try invocation(
            "-a 10.0.2.1 -a 10.0.2.100/24 -a 2001:db8::5/56 -g 10.0.2.2 -g fe80::1 -o 192.0.2.9 -o 2001:db8::9"
        ).configuration
        #expect(
            found.addressSources == [
                .explicit(try address("10.0.2.1"), length: nil), .explicit(try address("10.0.2.100"), length: 24),
                .explicit(try address("2001:db8::5"), length: 56),
            ])
        #expect(found.explicitAddresses(of: .v4) == [try address("10.0.2.1"), try address("10.0.2.100")])
        #expect(found.prefixLengths == .init(v4: nil, v6: nil))
        #expect(found.gateways == .init(v4: try address("10.0.2.2"), v6: try address("fe80::1")))
        #expect(found.outboundAddresses == .init(v4: try address("192.0.2.9"), v6: try address("2001:db8::9")))
        #expect(try invocation("-o 127.0.0.1").configuration.outboundAddresses.v4 == address("127.0.0.1"))
    }

    @Test(
        "the forms of -a and -n",
        arguments: [
            ("-a 10.0.2.15", "10.0.2.15", nil), ("-a [10.0.2.15]/8", "10.0.2.15", 8),
            ("-a ::ffff:10.0.2.15/120", "10.0.2.15", 24), ("-a [2001:db8::1]", "2001:db8::1", nil),
            ("-a 10.0.2.0 -n 24", "10.0.2.0", 24), ("-n 255.255.255.0 -a 10.0.2.15", "10.0.2.15", 24),
            ("-a 10.0.2.15 -n 255.0.0.0", "10.0.2.15", 8),
            ("-a 10.0.2.255/24", "10.0.2.255", 24), ("-a 2001:db8::1/128", "2001:db8::1", 128),
            ("-a 10.0.2.15 -a 2001:db8::1/64 -n 24", "10.0.2.15", 24),
        ] as [(String, String, Int?)])
    func prefixLengths(line: String, text: String, length: Int?) throws {
        let found = try invocation(line).configuration
        let expected = try address(text)
        guard case .explicit(expected, let given) = found.addressSources.first else {
            Issue.record("\(found.addressSources)")
            return
        }
        #expect(given ?? found.prefixLengths[expected.family] == length)
    }

    @Test("-n without an address applies to the host's")
    func netmaskAlone() throws {
        let found = try invocation("-n 16").configuration
        #expect(found.addressSources.isEmpty && found.prefixLengths.v4 == 16)
    }

    @Test(
        "the sources of -a: keywords, interfaces, %NAME for an interface of a keyword's name",
        arguments: [
            ("-a auto", [.template]), ("-a all", [.all]), ("-a ll", [.linkLocal]), ("-a eth0", [.interface("eth0")]),
            ("-a %auto -a %all -a %ll", [.interface("auto"), .interface("all"), .interface("ll")]),
            ("-a %10.0.0.1", [.interface("10.0.0.1")]), ("-a wg-0.5", [.interface("wg-0.5")]),
            ("-a all -a eth0 -a all", [.all, .interface("eth0")]), ("", []),
        ] as [(String, [AddressSource])])
    func sources(line: String, sources: [AddressSource]) throws {
        #expect(try invocation(line).configuration.addressSources == sources)
    }

    @Test("a family's sources: an address of the other family and ll leave it the template's")
    func sourcesOfAFamily() throws {
        let mixed = try invocation("-a ll -a 10.0.2.1").configuration
        let four = AddressSource.explicit(try address("10.0.2.1"), length: nil)
        #expect(mixed.sources(of: .v4) == [.linkLocal, four] && mixed.hasOwnAddressesOnly(.v4))
        #expect(mixed.sources(of: .v6) == [.template, .linkLocal] && !mixed.hasOwnAddressesOnly(.v6))
        #expect(try invocation("").configuration.sources(of: .v4) == [.template])
        #expect(try invocation("-a all").configuration.sources(of: .v6) == [.all])
    }

    @Test("the modes; in transparent mode inbound ports are listened on at the interface only")
    func modes() throws {
        #expect(try invocation("").configuration.networkMode == .auto)
        #expect(try invocation("--mode auto --strict-addresses").configuration.acceptsOtherAddresses == false)
        #expect(try invocation("--mode opaque -a all").configuration.networkMode == .opaque)
        let found = try invocation("--mode transparent -i w0 -m 1400 -t 80 -t %e0/81 -t 127.0.0.1/82 -u 90 -T 70")
        #expect(found.configuration.networkMode == .transparent && found.configuration.isMTUGiven)
        let interfaces = found.forwards.map { "\($0.transport) \($0.first) \($0.interface ?? "-")" }
        #expect(interfaces.sorted() == ["TCP 70 -", "TCP 80 w0", "TCP 81 e0", "TCP 82 -", "UDP 90 w0"])
        let defaults = try invocation("--mode transparent -i w0").defaultForwards(
            ephemeralRange: EphemeralRange.fallback)
        #expect(defaults.allSatisfy { ($0.direction == .inbound) == ($0.interface == "w0") } && !defaults.isEmpty)
    }

    @Test("64 sources are taken, one more is refused")
    func manySources() throws {
        let line = (1...64).map { "-a 10.0.2.\($0)" }.joined(separator: " ")
        #expect(try invocation(line).configuration.addressSources.count == 64)
        let error = try #require(usageError(line + " -a eth0"))
        #expect(error.message.contains("-a/--address 'eth0': more than 64 sources; leave some out"))
    }

    @Test("the interface's options")
    func interface() throws {
        let found = try invocation(
            "-i eth0 --outbound-if4 eth1 --outbound-if6 eth2 -I tap0 -M 02:00:00:00:00:01 --ns-mac-addr 02:00:00:00:00:02 --config-net"
        )
        #expect(found.configuration.templateInterface == "eth0")
        #expect(found.configuration.outboundInterfaces == .init(v4: "eth1", v6: "eth2"))
        #expect(found.configuration.interfaceName == "tap0")
        #expect(found.configuration.gatewayMAC == MACAddress(2, 0, 0, 0, 0, 1))
        #expect(found.configuration.namespaceMAC == MACAddress(2, 0, 0, 0, 0, 2))
        #expect(found.configuration.configuresNamespace)
        #expect(!found.isEnabled(.routerAdvertisements))
        #expect(found.configuration.copiesRoutes && found.configuration.copiesAddresses)
        let bare = try invocation("--config-net --no-copy-routes").configuration
        #expect(!bare.copiesRoutes && bare.copiesAddresses)
    }

    @Test(
        "MTUs",
        arguments: [("-m 0", nil), ("-m 65521", 65521), ("-m 1280", 1280), ("-4 -m 68", 68), ("-m 576 -4", 576)]
            as [(String, UInt32?)])
    func mtus(line: String, mtu: UInt32?) throws {
        #expect(try invocation(line).configuration.mtu == mtu)
    }

    @Test("the last of -4 and -6 counts", arguments: [("-4 -6", .v6), ("-6 -4", .v4)] as [(String, AddressFamily)])
    func families(line: String, family: AddressFamily) throws {
        #expect(try invocation(line).configuration.families == [family])
    }

    @Test("resolvers: three for each family, none clears what came before")
    func resolvers() throws {
        let found = try invocation(
            "-D 1.1.1.1 -D 1.1.1.2 -D 1.1.1.3 -D 1.1.1.4 -D ::1 --dns-forward 10.0.2.3 --dns-host 127.0.0.1")
        #expect(found.configuration.dnsServers.map(\.description) == ["1.1.1.1", "1.1.1.2", "1.1.1.3", "::1"])
        #expect(found.configuration.dnsForward.v4 == (try address("10.0.2.3")))
        #expect(found.configuration.dnsHost.v4 == (try address("127.0.0.1")))
        #expect(found.warnings.count == 1 && !found.configuration.suppressesDNS)
        let cleared = try invocation(
            "-D 1.1.1.1 --dns-forward 10.0.2.3 --dns-host 1.1.1.2 -D none --dns-forward fe80::9")
        #expect(cleared.configuration.dnsServers.isEmpty && cleared.configuration.suppressesDNS)
        #expect(cleared.configuration.dnsForward == .init(v4: nil, v6: try address("fe80::9")))
        #expect(cleared.configuration.dnsHost == .init(v4: nil, v6: nil))
    }

    @Test("search lists are split at blanks and gathered")
    func search() throws {
        func domains(_ words: [String]) throws -> [String]? {
            guard case .run(let found) = try parseWords(words) else { return nil }
            return found.searchDomains
        }
        #expect(
            try domains(["-S", "a.example b.example", "-S", "c.example"]) == ["a.example", "b.example", "c.example"])
        #expect(try domains(["-S", "none"]) == [])
        #expect(try domains(["-S", "a", "-S", "none", "-S", "b"]) == ["b"])
        #expect(usageError(["-S", "1 2 3 4 5 6"]) == nil)
        #expect(usageError(["-S", "1 2 3 4 5 6 7"]) != nil)
    }

    @Test("names and services")
    func services() throws {
        let found = try invocation(
            "-H box --fqdn box.example --dhcp-dns --dhcp-search -S x --no-dhcp --no-dhcpv6 --no-ra")
        #expect(found.hostname == "box" && found.fqdn == "box.example")
        #expect(found.configuration.announcesResolvers && found.configuration.announcesSearchList)
        #expect(found.configuration.services == [.neighborDiscovery])
        #expect(found.disabledFeatures == [.dhcp, .dhcpv6, .routerAdvertisements])
        #expect(try invocation("--no-icmp").disabledFeatures == [.icmp, .ndp])
        #expect(try !invocation("true").usesNativeSockets)
        for words in ["--native-sockets true", "--native-sockets=connect true", "--native-s true"] {
            #expect(try invocation(words).usesNativeSockets)
            #expect(try invocation(words).mode == .spawn(command: ["true"]))
        }
        #expect(try invocation("--no-ndp").disabledFeatures == [.ndp])
    }

    @Test("announcements and their lifetimes")
    func leases() throws {
        #expect(try invocation("true").configuration.leaseTime == 120)
        #expect(try invocation("--lease-time 7 true").configuration.leaseTime == 7)
        #expect(try invocation("true").configuration.udhcpcLeaseTime == 90)
        #expect(try invocation("--lease-time 7 true").configuration.udhcpcLeaseTime == 7)
        #expect(try invocation("--lease-time 0 true").configuration.udhcpcLeaseTime == .max)
        #expect(try invocation("--lease-time 0 true").configuration.leaseTime == .max)
        #expect(usageError("--lease-time 4294967295 true") != nil && usageError("--lease-time x true") != nil)
        #expect(try invocation("true").configuration.togglesCarrier)
        #expect(try !invocation("--no-carrier-toggle true").configuration.togglesCarrier)
        #expect(try invocation("true").configuration.services == .all)
        #expect(try !invocation("--no-icmp true").configuration.services.contains(.neighborDiscovery))
        // The last one wins; the default is not to announce.
        #expect(try !invocation("--dhcp-dns --no-dhcp-dns true").configuration.announcesResolvers)
        #expect(try invocation("--no-dhcp-search --dhcp-search true").configuration.announcesSearchList)
        #expect(try !invocation("true").configuration.announcesResolvers)
    }

    @Test("mappings: an address for each family, or none")
    func mappings() throws {
        let guest = try invocation("--map-guest-addr 169.254.1.2 --map-guest-addr fd00::2").configuration
        #expect(
            guest.guestAddressMappings
                == .init(v4: .address(try address("169.254.1.2")), v6: .address(try address("fd00::2"))))
        let none = try invocation("--map-host-loopback 10.0.2.2 --map-host-loopback none").configuration
        #expect(none.hostLoopbackMappings == .init(v4: .none, v6: .none))
        #expect(!none.gatewayMapsToHost)
        let explicit = try invocation("--no-map-gw --map-host-loopback 10.0.2.2").configuration
        #expect(explicit.hostLoopbackMappings == .init(v4: .address(try address("10.0.2.2")), v6: .default))
        #expect(!explicit.gatewayMapsToHost)
        #expect(
            try invocation("--map-guest-addr none").configuration.guestAddressMappings == .init(v4: .none, v6: .none))
    }

    @Test("forwards are gathered; an option that appears has no default")
    func forwards() throws {
        let found = try invocation("-t 8080:80 -t 127.0.0.1/81 -u none -U 53 --freebind")
        #expect(
            found.forwards.map(\.description)
                == ["TCP *:8080 => 80", "TCP 127.0.0.1:81 => 81", "UDP *:53 => 53"])
        #expect(found.forwards.map(\.direction) == [.inbound, .inbound, .outbound])
        #expect(found.defaultedForwards == [.tcpOutbound])
        #expect(found.bindsAbsentAddresses)
        #expect(
            found.defaultForwards(ephemeralRange: ephemeral).map(\.description)
                == ["TCP *:1-32767 => 1-32767 (auto)", "TCP *:61000-65535 => 61000-65535 (auto)"])
        // Options that come later count, too.
        #expect(try invocation("-t 80 -4").forwards.map(\.description) == ["TCP 0.0.0.0:80 => 80"])
        // `none` first only suppresses the default.
        #expect(try invocation("-t none -t 80").forwards.count == 1)
    }

    @Test("a protocol that is off has no default forwards")
    func protocolOff() throws {
        #expect(try invocation("--no-tcp").defaultedForwards == [.udpInbound, .udpOutbound])
        #expect(try invocation("--no-udp").defaultedForwards == [.tcpInbound, .tcpOutbound])
        #expect(try invocation("--no-tcp --no-udp -t none").defaultForwards(ephemeralRange: ephemeral).isEmpty)
    }

    @Test("--splice-only implies what it says")
    func spliceOnly() throws {
        let found = try invocation("--splice-only -D 1.1.1.1 --dns-forward 10.0.2.3 --config-net")
        #expect(found.spliceOnly && found.hostLoopbackToNamespaceLoopback)
        #expect(!found.isEnabled(.icmp) && !found.isEnabled(.ndp) && found.isEnabled(.tcp))
        #expect(found.configuration.suppressesDNS && found.configuration.dnsServers.isEmpty)
        #expect(found.configuration.dnsForward.v4 == nil && found.searchDomains == [])
        #expect(try invocation("--host-lo-to-ns-lo").hostLoopbackToNamespaceLoopback)
        #expect(try !invocation("--no-splice").splicesInbound)
    }

    @Test("following the host")
    func following() throws {
        #expect(try !invocation("--no-monitor").monitorsHost)
        #expect(try invocation("--hold-down 0").holdDown == .zero)
        #expect(try invocation("--hold-down 1.5").holdDown == .milliseconds(1500))
        #expect(try invocation("--hold-down 0.025").holdDown == .milliseconds(25))
        #expect(try invocation("--hold-down 86400.999").holdDown == .milliseconds(86_400_999))
    }

    @Test("--repair-path none is nothing")
    func repairPath() throws {
        #expect(try invocation("--repair-path none") == (try invocation("--repair-path=none -f").notForeground(2)))
    }
}

extension Invocation {
    /// The same, as it would be without `-f` and with the operands at another place.
    fileprivate func notForeground(_ operandIndex: Int) -> Invocation {
        var copy = self
        copy.foreground = false
        copy.operandIndex = operandIndex + 1
        return copy
    }
}
