// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// What is connected by a socket or a descriptor instead of a namespace.
    ///
    ///     virtual machine ── socket ── tapas in host ── eth0 ── server        (Lab.Laptop)
    @Suite("virtual machines", .timeLimit(.minutes(5))) struct VirtualMachines {
        /// A virtual machine of QEMU that boots what machine.sh makes.
        struct Machine {
            let program: Program

            init(
                in host: Host, _ files: String, socket: String, fetch: String, isVhostUser: Bool = false
            ) async throws {
                let memory = ["-object", "memory-backend-memfd,id=memory,size=192M,share=on"]
                let card = "virtio-net-pci,netdev=s,mac=52:54:00:12:34:56,romfile="
                // QEMU 7.2 crashes with vhost-user and message-signalled interrupts where it emulates the processor.
                let network =
                    isVhostUser
                    ? [
                        "-device", "\(card),vectors=0", "-netdev", "vhost-user,id=s,chardev=c", "-chardev",
                        "socket,id=c,path=\(socket)",
                    ]
                    : ["-device", card, "-netdev", "stream,id=s,server=off,addr.type=unix,addr.path=\(socket)"]
                program = try await host.start(
                    [
                        "qemu-system-x86_64", "-display", "none", "-nodefaults", "-no-reboot", "-machine",
                        "q35,accel=tcg" + (isVhostUser ? ",memory-backend=memory" : ""), "-cpu", "max", "-m", "192",
                        "-kernel", "\(files)/kernel", "-initrd", "\(files)/initramfs", "-append",
                        "console=ttyS0 quiet panic=-1 fetch=\(fetch)", "-serial", "stdio",
                    ] + (isVhostUser ? memory : []) + network)
            }

            /// Waits until all of some lines are in what the guest tells last.
            func tells(_ wanted: [String], within limit: Duration = .seconds(60)) async throws {
                var last: [String] = []
                do {
                    try await eventually("the guest tells \(wanted)", within: limit) {
                        let told = program.output.components(before: "machine: end").last ?? ""
                        last = told.split(whereSeparator: \.isNewline).map { String($0) }
                            .filter { $0.hasPrefix("machine: ") }.map { String($0.dropFirst(9)) }
                        if let ended = program.termination {
                            throw LabError("QEMU: \(ended)\n\(program.output)\(program.errors)")
                        }
                        try await Task.sleep(for: .milliseconds(50))
                        return Set(wanted).isSubset(of: last)
                    }
                } catch {
                    throw LabError("\(error): last it told \(last)")
                }
            }
        }

        /// The program by the name `passt`.
        private func passt(_ lab: Lab) async throws -> String {
            let path = "\(lab.directory)/passt"
            let host = try await lab.host("linker")
            try await host.must(["ln", "-sf", binary, path])
            return path
        }

        /// Starts a program and waits for its pid file.
        private func ready(_ host: Host, _ command: [String]) async throws -> Program {
            let pidFile = host.lab.newPath("pid")
            let program = try await host.start(command + ["--foreground", "--pid", pidFile], tested: true)
            try await eventually("\(command[0]) is ready: its pid file has content") {
                if contents(of: pidFile).hasSuffix("\n") { return true }
                if let ended = program.termination { throw LabError("\(ended) before it was ready\n\(program.errors)") }
                return false
            }
            return program
        }

        /// Makes the files of a guest, and starts the server that it fetches from; returns the folder of the files.
        private func prepareMachine(_ lab: Lab, _ net: Laptop) async throws -> String {
            let files = "\(lab.directory)/machine"
            try await net.host.must(["mkdir", "\(lab.directory)/www", files])
            try await net.host.must(["bash", projectFile("Integration/Lab/Programs/machine.sh"), files])
            try await net.server.must(["sh", "-c", "echo hello > \(lab.directory)/www/index.html"])
            _ = try await net.server.start(["busybox", "httpd", "-f", "-h", "\(lab.directory)/www"])
            return files
        }

        @Test("a guest sees what slirp shows, fetches, is reached by a forwarded port, and follows a roam")
        func guest() async throws {
            try await withLab { lab in
                let net = try await Laptop(in: lab)
                let files = try await prepareMachine(lab, net)
                let socket = "\(lab.directory)/vm.socket"
                let engine = try await ready(
                    net.host,
                    [
                        try await passt(lab), "--one-off", "--socket", socket, "-a", "169.254.2.15", "-n", "16", "-g",
                        "169.254.2.2", "-M", "52:56:00:00:00:02", "-t", "8080:80",
                    ])
                let machine = try await Machine(in: net.host, files, socket: socket, fetch: "http://203.0.113.1/")
                try await machine.tells([
                    "link 52:54:00:12:34:56", "address 169.254.2.15/16", "router 169.254.2.2",
                    "neighbour 52:56:00:00:00:02", "fetched hello", "address 2001:db8:1:0:5054:ff:fe12:3456/64",
                ])
                let answer = try await net.server.must([
                    "curl", "-sS", "--max-time", "10", "http://192.0.2.10:8080/cgi-bin/who",
                ])
                #expect(answer == "guest 169.254.2.15/16\n")
                try await net.host.ip(
                    """
                    -6 address del 2001:db8:1::10/64 dev eth0
                    -6 address add 2001:db8:9::10/64 dev eth0 nodad
                    -6 route replace default via fe80::1 dev eth0
                    """)
                try await machine.tells(["address 2001:db8:9:0:5054:ff:fe12:3456/64", "address 169.254.2.15/16"])
                // QEMU is killed: a link for one client ends with it, and removes its socket.
                try await net.host.must(["kill", "-9", "\(machine.program.processID)"])
                let end = try await engine.end(within: .seconds(10))
                #expect(end.status == 0, "\(end)")
                #expect(try await net.host.run(["test", "-e", socket]).status == 1, "the socket is removed")
            }
        }

        @Test(
            "over vhost-user a guest fetches, is reached by a forwarded port, and the next one on the same socket too")
        func vhostUser() async throws {
            try await withLab { lab in
                let net = try await Laptop(in: lab)
                let files = try await prepareMachine(lab, net)
                let socket = "\(lab.directory)/vm.socket"
                let engine = try await ready(
                    net.host,
                    [try await passt(lab), "--vhost-user", "--socket-path", socket, "-t", "8080:80"])
                for _ in 0..<2 {
                    let machine = try await Machine(
                        in: net.host, files, socket: socket, fetch: "http://203.0.113.1/", isVhostUser: true)
                    try await machine.tells(["address 192.0.2.10/24", "fetched hello"])
                    let answer = try await net.server.must([
                        "curl", "-sS", "--max-time", "10", "http://192.0.2.10:8080/cgi-bin/who",
                    ])
                    #expect(answer == "guest 192.0.2.10/24\n")
                    // QEMU is killed in the middle of everything; the next one finds nothing of it.
                    try await net.host.must(["kill", "-9", "\(machine.program.processID)"])
                    _ = try await machine.program.end(within: .seconds(10))
                }
                try await net.host.must(["kill", "\(engine.processID)"])
                _ = try await engine.end(within: .seconds(10))
            }
        }

        /// A device that somebody else has made.
        struct Device: Sendable, CustomTestStringConvertible {
            var kind: String
            var header: String
            var testDescription: String { "\(kind), \(header)" }
        }

        @Test(
            "a tap or tun that somebody else configures carries traffic both ways and is left as it is",
            arguments: [
                Device(kind: "tap", header: "plain"), Device(kind: "tap", header: "header"),
                Device(kind: "tun", header: "plain"), Device(kind: "tun", header: "header"),
            ])
        func handedOver(device: Device) async throws {
            try await withLab { lab in
                let net = try await Laptop(in: lab)
                _ = try await net.guest.start(["busybox", "nc", "-l", "-p", "7000", "-e", "busybox", "cat"])
                let pidFile = lab.newPath("pid")
                let engine = try await net.guest.start(
                    [
                        "python3", helperProgram("device.py"), device.kind, device.header, "dev0", "nsenter", "-t",
                        "\(net.host.processID)", "-n", "--", binary, "--fd", "FD", "--foreground", "--pid", pidFile,
                        "-a", "10.0.2.15/24", "-g", "10.0.2.2", "-t", "7000", "-4",
                    ], tested: true)
                try await eventually("it is ready") {
                    if let ended = engine.termination { throw LabError("\(ended)\n\(engine.errors)") }
                    return contents(of: pidFile).hasSuffix("\n")
                }
                #expect(try await net.guest.must(["ip", "-4", "address", "show", "dev", "dev0"]).isEmpty)
                try await net.guest.ip("address add 10.0.2.15/24 dev dev0")
                try await net.guest.ip("route add default via 10.0.2.2 dev dev0")
                try await net.guest.must(["ping", "-c", "1", "-W", "5", "203.0.113.1"])
                let body = "\(lab.directory)/body"
                try await net.server.must(["sh", "-c", "head -c 3000000 /dev/urandom > \(body)"])
                _ = try await net.server.start(["busybox", "httpd", "-f", "-p", "8000", "-h", lab.directory])
                try await net.guest.must(
                    ["sh", "-c", "curl -sS --retry 5 --retry-connrefused http://203.0.113.1:8000/body | cmp - \(body)"])
                try await net.server.must([
                    "sh", "-c",
                    "head -c 1000 \(body) | timeout 10 busybox nc 192.0.2.10 7000 | head -c 1000 | cmp -n 1000 - \(body)",
                ])
                try await net.guest.must(["ip", "link", "del", "dev0"])
                let end = try await engine.end(within: .seconds(10))
                #expect(end.status == 0, "\(end)")
            }
        }
    }
}

extension String {
    /// The texts before each occurrence of another one.
    fileprivate func components(before separator: String) -> [String] {
        var parts: [String] = []
        var rest = self[...]
        while let found = rest.firstRange(of: separator) {
            parts.append(String(rest[..<found.lowerBound]))
            rest = rest[found.upperBound...]
        }
        return parts
    }
}
