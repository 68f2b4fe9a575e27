// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Testing

@testable import Options

@Suite("Virtual machines on the command line")
struct VirtualMachineOptionTests {
    /// Parses a command line of a program that is called passt.
    private func passt(_ line: String, name: String = "passt") throws -> Invocation {
        let words = line.split(separator: " ").map { String($0) }
        let outcome = try parse(arguments: [name] + words, ephemeralRange: ephemeral)
        guard case .run(let invocation) = outcome else {
            Issue.record("\(line): \(outcome)")
            return Invocation()
        }
        return invocation
    }

    private func refusal(_ line: String, name: String = "passt") -> String? {
        do {
            _ = try parse(
                arguments: [name] + line.split(separator: " ").map { String($0) }, ephemeralRange: ephemeral)
            return nil
        } catch {
            return error.message
        }
    }

    @Test("the name passt means a virtual machine", arguments: ["passt", "/usr/bin/passt", "passt.avx2"])
    func name(name: String) throws {
        let found = try passt("", name: name)
        let machine = try #require(found.virtualMachine)
        #expect(machine.place == .firstFree && machine.transport == .stream && !machine.isForOneClient)
        #expect(found.goesToBackground && found.forwards.isEmpty && found.defaultedForwards.isEmpty)
        #expect(found.configuration.announcesResolvers && found.configuration.announcesSearchList)
        #expect(!found.splicesInbound && found.networkNamespacePath == nil && found.joinedUserNamespacePath == nil)
    }

    @Test("any other name means a namespace", arguments: ["pasta", "/usr/bin/pasta.avx2", "tapas", "", "/passt/tapas"])
    func otherNames(name: String) throws {
        #expect(try passt("", name: name).mode == .spawn(command: []))
    }

    @Test("an option that says how one is connected means a virtual machine under any name")
    func byOption() throws {
        #expect(try invocation("-s /s").virtualMachine?.place == .path("/s"))
        #expect(try invocation("--socket /s").virtualMachine?.place == .path("/s"))
        #expect(try invocation("--socket-path /s -1").virtualMachine?.isForOneClient == true)
        #expect(try invocation("--vhost-user").virtualMachine?.transport == .vhostUser)
        let byDescriptor = try #require(try invocation("--fd 7").virtualMachine)
        #expect(byDescriptor.place == .descriptor(7) && byDescriptor.isForOneClient)
        #expect(try invocation("-F 0").virtualMachine?.place == .descriptor(0))
        #expect(try invocation("--fd 7 -T none -U none").virtualMachine != nil)
    }

    @Test("a descriptor undoes an earlier socket, and the other way round")
    func lastWins() throws {
        #expect(try passt("-s /s -F 5").virtualMachine?.place == .descriptor(5))
        let socket = try #require(try passt("-F 5 -s /s").virtualMachine)
        #expect(socket.place == .path("/s") && !socket.isForOneClient)
    }

    @Test("what is announced can be left out")
    func announcements() throws {
        let found = try passt("--no-dhcp-dns --no-dhcp-search")
        #expect(!found.configuration.announcesResolvers && !found.configuration.announcesSearchList)
        #expect(try !passt("-D none").configuration.announcesResolvers)
    }

    @Test("libvirt's command line, as recorded")
    func libvirt() throws {
        let found = try passt(
            "--one-off --socket /run/user/0/libvirt/qemu/run/passt/1-test-net0.socket --pid /run/p "
                + "--mac-addr 52:54:00:41:2c:49 --mtu 9000 --interface eth0 --log-file /l --address 169.254.0.0 "
                + "--netmask 16 --address fd00::15 --tcp-ports 192.0.2.1%eth0/80-90:8080-8090,~85 --udp-ports all",
            name: "/usr/bin/passt")
        let machine = try #require(found.virtualMachine)
        #expect(machine.isForOneClient && found.forwards.count == 4 && found.pidFile == "/run/p")
        #expect(found.configuration.prefixLengths.v4 == 16)
        #expect(found.configuration.gatewayMAC.description == "52:54:00:41:2c:49")
    }

    @Test("crun's command line for its krun handler")
    func krun() throws {
        let found = try passt("-t all -u all --no-dhcp-dns --no-map-gw --fd 6")
        #expect(found.virtualMachine?.place == .descriptor(6) && found.forwards.count == 4)
    }

    @Test(
        "options of namespaces are refused by name",
        arguments: [
            "-I tap0", "--userns /u", "--netns /n", "--netns-only", "--no-netns-quit", "--config-net",
            "--no-copy-routes", "--no-copy-addrs", "--ns-mac-addr 02:00:00:00:00:01", "--dhcp-dns", "--dhcp-search",
            "--host-lo-to-ns-lo", "--splice-only", "-T 80", "-U none", "true", "42", "-t auto", "-u 80,auto",
            "-t 127.0.0.1/auto",
        ])
    func namespaceOptions(line: String) throws {
        let message = try #require(refusal(line), "accepted: \(line)")
        #expect(!message.contains("\n") && message.contains("; ") || message.contains("leave it out"), "\(message)")
        let word = line.split(separator: " ").first.map { String($0) } ?? ""
        let isOperand = !word.hasPrefix("-")
        #expect(isOperand ? message.contains("'\(word)'") : message.hasPrefix("-"), "\(message)")
    }

    @Test(
        "what cannot be",
        arguments: [
            ("--repair-path /r", "migration is not supported"), ("--migrate-exit", "migration is not supported"),
            ("--migrate-no-linger", "migration is not supported"), ("-F 1", "standard output"),
            ("-F 2", "standard error"), ("-F x", "-F/--fd 'x'"),
            ("-s /\(String(repeating: "s", count: 107))", "at most 107"), ("--slirp 10.0.2.0", "10.0.2.0/24"),
            ("--slirp 10.0.2.0/28", "8 to 27"), ("--slirp fd00::/64", "IPv4 network"),
            ("--slirp 127.0.0.0/8", "no network for a guest"), ("--slirp 10.0.2.0/24 -n 24", "-n/--netmask 24"),
            ("--slirp 10.0.2.0/24 --mode opaque", "--mode opaque"),
        ])
    func refusals(line: String, part: String) throws {
        let message = try #require(refusal(line), "accepted: \(line)")
        #expect(message.contains(part) && message.hasPrefix("-"), "\(message)")
        #expect(!message.contains("\n"))
    }

    @Test("'none' for the helper of migration is accepted everywhere, one client for virtual machines only")
    func others() throws {
        #expect(throws: Never.self) { try passt("--repair-path none") }
        #expect(throws: Never.self) { try invocation("--repair-path none true") }
        #expect(usageError("-1 true")?.message.contains("add --socket") == true)
        let longest = "/" + String(repeating: "s", count: 106)
        #expect(try passt("-s \(longest)").virtualMachine?.place == .path(longest))
    }

    // MARK: slirp

    @Test(
        "--slirp gives what slirp would have given",
        arguments: [
            ("10.0.2.0/24", "10.0.2.15", "10.0.2.2", "10.0.2.3", "52:55:0a:00:02:02"),
            ("169.254.0.0/16", "169.254.2.15", "169.254.2.2", "169.254.2.3", "52:55:a9:fe:02:02"),
            ("10.0.0.0/8", "10.0.2.15", "10.0.2.2", "10.0.2.3", "52:55:0a:00:02:02"),
            ("192.168.7.9/24", "192.168.7.15", "192.168.7.2", "192.168.7.3", "52:55:c0:a8:07:02"),
            ("192.168.76.0/27", "192.168.76.15", "192.168.76.2", "192.168.76.3", "52:55:c0:a8:4c:02"),
        ])
    func slirp(network: String, guest: String, router: String, resolver: String, mac: String) throws {
        let configuration = try passt("--slirp \(network)").configuration
        let length = network.split(separator: "/").last.flatMap { Int($0) }
        #expect(
            configuration.addressSources == [
                .explicit(try address(guest), length: length), .explicit(try address("fec0::15"), length: 64),
            ])
        #expect(configuration.gateways == .init(v4: try address(router), v6: try address("fe80::2")))
        #expect(configuration.dnsForward == .init(v4: try address(resolver), v6: try address("fec0::3")))
        #expect(configuration.hostLoopbackMappings.v6 == .address(try address("fec0::2")))
        #expect(configuration.gatewayMAC.description == mac && configuration.learnsGuestAddress)
    }

    @Test("beside --slirp, what other options say holds")
    func slirpAndOthers() throws {
        let found = try passt(
            "--slirp 10.0.2.0/24 -a 10.0.2.20/24 -g 10.0.2.1 -M 02:00:00:00:00:01 --dns-forward 10.0.2.9 "
                + "--map-host-loopback none"
        ).configuration
        #expect(found.addressSources == [.explicit(try address("10.0.2.20"), length: 24)])
        #expect(found.gateways == .init(v4: try address("10.0.2.1"), v6: try address("fe80::2")))
        #expect(found.gatewayMAC.description == "02:00:00:00:00:01" && !found.learnsGuestAddress)
        #expect(found.dnsForward == .init(v4: try address("10.0.2.9"), v6: try address("fec0::3")))
        #expect(found.hostLoopbackMappings.v6 == .none)
        #expect(try passt("--slirp 10.0.2.0/24 -D none").configuration.dnsForward == .init(v4: nil, v6: nil))
    }
}
