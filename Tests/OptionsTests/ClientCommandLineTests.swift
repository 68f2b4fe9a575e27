// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Options
import Testing

/// Command lines that other programs start pasta with, whole.
@Suite("Clients' command lines")
struct ClientCommandLineTests {
    @Test("Podman, a plain container")
    func podman() throws {
        let found = try invocation(
            "--config-net --dns-forward 169.254.1.1 -t none -u none -T none -U none --no-map-gw --quiet "
                + "--netns /run/user/1000/netns/netns-0b5e --map-guest-addr 169.254.1.2")
        #expect(found.mode == .attachPath("/run/user/1000/netns/netns-0b5e"))
        #expect(found.goesToBackground && found.quitsWithNamespace && found.joinedUserNamespacePath == nil)
        #expect(found.forwards.isEmpty && found.defaultedForwards.isEmpty)
        #expect(found.verbosity == .quiet && found.warnings.isEmpty)
        var expected = Configuration()
        expected.configuresNamespace = true
        expected.dnsForward.v4 = try address("169.254.1.1")
        expected.gatewayMapsToHost = false
        expected.guestAddressMappings.v4 = .address(try address("169.254.1.2"))
        #expect(found.configuration == expected)
    }

    @Test("Podman, published ports and the user's options")
    func podmanPorts() throws {
        let found = try invocation(
            "--config-net --mtu 1500 -I tap0 --ns-mac-addr 9a:dd:31:ea:92:98 -a 10.0.2.0 -n 24 -g 10.0.2.2 "
                + "--ns-mac-addr 9a:dd:31:ea:92:99 -t 5000-5000:80-80 -t 192.0.2.1/5001-5002:81-82 "
                + "-u fd00::1/5000-5000:80-80 -t ::1/6000-6000:90-90 --dns-forward 169.254.1.1 -T none -U none "
                + "--no-map-gw --quiet --netns /proc/7/ns/net --map-guest-addr 169.254.1.2")
        #expect(
            found.forwards.map(\.description) == [
                "TCP *:5000 => 80", "TCP 192.0.2.1:5001-5002 => 81-82", "UDP [fd00::1]:5000 => 80",
                "TCP [::1]:6000 => 90",
            ])
        #expect(found.configuration.mtu == 1500 && found.configuration.interfaceName == "tap0")
        #expect(found.configuration.namespaceMAC == MACAddress("9a:dd:31:ea:92:99"))
        #expect(found.configuration.prefixLengths.v4 == 24)
        #expect(found.defaultedForwards.isEmpty)
    }

    @Test(
        "Podman's documented user options",
        arguments: [
            "--mtu 1500", "-m 1280", "-4", "-6", "--ipv4-only", "-a 10.0.2.0", "-n 24", "-g 10.0.2.2", "-I tap0",
            "--ns-ifname eth0", "-i eth0", "--no-ndp", "--no-dhcp", "--no-dhcpv6", "--no-ra", "-t auto", "-u auto",
            "-T auto", "-U auto", "-T 5201", "--tcp-ports 192.0.2.1%eth0/5000:5000", "--tcp-ns 9999",
            "--map-host-loopback 169.254.1.3", "--pid /p", "--log-file /l", "-d", "--trace", "--pcap /c",
            "-o 192.0.2.1", "--outbound-if4 eth0", "--host-lo-to-ns-lo", "-a fd00::2 -g fd00::1",
        ])
    func podmanUserOptions(line: String) throws {
        let found = try invocation("--config-net \(line) --no-map-gw --netns /n")
        #expect(found.mode == .attachPath("/n") && found.warnings.isEmpty)
    }

    @Test("RootlessKit, with a process and with detached namespaces")
    func rootlessKit() throws {
        let common =
            "--stderr --ns-ifname=tap0 --mtu=65520 --config-net --address=10.0.2.100 --netmask=24 --gateway=10.0.2.2 "
            + "--dns-forward=10.0.2.3 --no-map-gw --ipv4-only --tcp-ports=auto --udp-ports=auto --host-lo-to-ns-lo "
        let found = try invocation(common + "4711")
        #expect(found.mode == .attach(pid: 4711))
        #expect(found.joinedUserNamespacePath == "/proc/4711/ns/user")
        #expect(found.warnings.count == 1)
        #expect(found.configuration.addressSources == [.explicit(try address("10.0.2.100"), length: nil)])
        #expect(found.configuration.prefixLengths.v4 == 24)
        #expect(found.configuration.families == [.v4])
        #expect(found.forwards.allSatisfy { $0.policy == .scanned } && found.forwards.count == 4)
        #expect(found.defaultedForwards == [.tcpOutbound, .udpOutbound])
        let detached = try invocation(
            common + "--userns=/proc/4711/ns/user --netns=/proc/4711/root/run/state/netns")
        #expect(detached.networkNamespacePath == "/proc/4711/root/run/state/netns")
        #expect(detached.joinedUserNamespacePath == "/proc/4711/ns/user")
        #expect(try invocation("--tcp-ports=none --udp-ports=none 1").forwards.isEmpty)
    }

    @Test("RootlessKit's probes")
    func rootlessKitProbes() throws {
        #expect(try parseLine("--version") == .version)
        #expect(try parseLine("--host-lo-to-ns-lo --version") == .version)
        #expect(throws: UsageError.self) { try parseLine("--not-yet-invented --version") }
    }

    @Test("Lix: namespaces by descriptor, both families")
    func lix() throws {
        let found = try invocation(
            "--quiet --foreground --config-net --gateway 169.254.1.1 --address 169.254.1.2 --netmask 16 "
                + "--dns-forward 169.254.1.1 --gateway fe80::1 --address fd00::2 --dns-forward fe80::1 "
                + "--ns-ifname eth0 --no-netns-quit --netns /proc/self/fd/0 --userns /proc/self/fd/1")
        #expect(found.networkNamespacePath == "/proc/self/fd/0" && found.joinedUserNamespacePath == "/proc/self/fd/1")
        #expect(!found.goesToBackground && !found.quitsWithNamespace)
        #expect(
            found.configuration.addressSources == [
                .explicit(try address("169.254.1.2"), length: nil), .explicit(try address("fd00::2"), length: nil),
            ])
        #expect(found.configuration.prefixLengths == .init(v4: 16, v6: nil))
        #expect(found.configuration.dnsForward == .init(v4: try address("169.254.1.1"), v6: try address("fe80::1")))
    }

    @Test("bubblejail: files of another process")
    func bubblejail() throws {
        let found = try invocation("--config-net --foreground --userns /proc/8/fd/5 --pid /proc/8/fd/6 9")
        #expect(found.mode == .attach(pid: 9))
        #expect(found.joinedUserNamespacePath == "/proc/8/fd/5" && found.pidFile == "/proc/8/fd/6")
    }

    @Test("sandboxes and wrappers")
    func sandboxes() throws {
        let sandbox = try invocation(
            "--config-net --netns /proc/5/ns/net --userns /proc/5/ns/user -t none -u none -T none -U none "
                + "--map-host-loopback none --no-netns-quit --foreground")
        #expect(sandbox.configuration.hostLoopbackMappings == .init(v4: .none, v6: .none))
        let wrapper = try invocation(
            "--config-net -q -t none -u none -T none -U none --no-map-gw --dns-forward 169.254.1.1 -- cmd --config-net -x"
        )
        #expect(wrapper.mode == .spawn(command: ["cmd", "--config-net", "-x"]))
        #expect(try invocation("--config-net --quiet -- true").mode == .spawn(command: ["true"]))
        #expect(try invocation("--config-net --quiet 321").mode == .attach(pid: 321))
        let iso = try invocation(
            "-f -q -l /log --config-net --outbound-if4 wlan0 -I tap0 --dns-forward 10.0.0.1 --no-ndp --no-dhcpv6 --no-ra id"
        )
        #expect(iso.configuration.outboundInterfaces == .init(v4: "wlan0", v6: nil))
        #expect(iso.disabledFeatures == [.ndp, .dhcpv6, .routerAdvertisements])
        let two = try invocation("-a 10.0.2.1 -g 10.0.2.2 -a fd00::1 -g fd00::2 -o fd00::9 --no-ra --no-dhcpv6 x")
        #expect(two.configuration.gateways == .init(v4: try address("10.0.2.2"), v6: try address("fd00::2")))
    }

    @Test("the option sets of slirp and of the seed requirement")
    func slirp() throws {
        let found = try invocation(
            "-4 -I eth0 --config-net -a 169.254.2.15 -n 16 -g 169.254.2.2 -M 52:56:00:00:00:02 --dns-forward 169.254.2.3"
        ).configuration
        #expect(found.gatewayMAC == MACAddress("52:56:00:00:00:02"))
        #expect(found.prefixLengths.v4 == 16)
        #expect(try found.gateways.v4 == address("169.254.2.2"))
    }
}
