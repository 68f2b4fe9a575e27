// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// A namespace that means harm: tapas goes on, and so do the flows of the others in it.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("a hostile namespace", .timeLimit(.minutes(3))) struct HostileGuest {
        @Test("garbage frames stop nobody", arguments: [1, 2, 3, 4])
        func garbageFrames(seed: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await laptop.host.attach(laptop.guest)
                let steady = try await laptop.guest.start(
                    ["python3", helperProgram("client.py"), "both", Laptop.beyond[0], "\(16 << 20)", "8"])
                try await laptop.guest.python("raw.py", "garbage", "eth0", "20000", "\(seed)")
                let outcome = try await steady.end(within: .seconds(60))
                #expect(outcome.termination == .exited(0), "\(outcome)")
                #expect(
                    try await laptop.guest.python("client.py", "upload", Laptop.beyond[1], "100000", "9").hasPrefix(
                        "ok"))
                #expect(try await laptop.guest.python("client.py", "udp", Laptop.beyond[0], "10") == "ok 10")
                #expect(program.termination == nil)
            }
        }

        @Test(
            "two fragments between addresses that only sockets have end nothing",
            arguments: ["::ffff:198.51.100.1", "::198.51.100.1", "::1"])
        func mappedFragments(target: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let program = try await laptop.host.attach(laptop.guest)
                for source in [Laptop.own[1], "::ffff:192.0.2.10"] {
                    try await laptop.guest.python("raw.py", "mapped-fragments", "eth0", source, target, "65528")
                }
                #expect(try await laptop.guest.python("client.py", "udp", Laptop.beyond[0], "10") == "ok 10")
                #expect(program.termination == nil)
            }
        }

        @Test("a flood of half-open connections stops nobody")
        func synFlood() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                // It listens and never accepts: soon its queue is full, and connections to it hang.
                let listener = """
                    import socket, threading
                    listener = socket.create_server(("", 7200), backlog=128)
                    print("ready", flush=True)
                    threading.Event().wait()
                    """
                try await laptop.server.start(["python3", "-c", listener]).wrote("ready")
                let program = try await laptop.host.attach(laptop.guest)
                let steady = try await laptop.guest.start(
                    ["python3", helperProgram("client.py"), "both", Laptop.beyond[0], "\(16 << 20)", "8"])
                try await laptop.guest.python(
                    "raw.py", "syn-flood", "eth0", "20000", "192.0.2.200", Laptop.beyond[0], "7200")
                let outcome = try await steady.end(within: .seconds(60))
                #expect(outcome.termination == .exited(0), "\(outcome)")
                #expect(try await laptop.guest.python("client.py", "short", Laptop.beyond[0], "20") == "ok 20")
                #expect(program.termination == nil)
                let memory =
                    contents(of: "/proc/\(program.processID)/status").split(separator: "\n")
                    .first { $0.hasPrefix("VmRSS:") } ?? ""
                print("measured: memory after a flood of 20,000 opens:\(memory.dropFirst(6))")
            }
        }

        @Test("tapas holds few capabilities, no way back and no files once it runs")
        func leastPrivilege() async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let program = try await laptop.host.attach(laptop.guest)
                let status = contents(of: "/proc/\(program.processID)/status").split(separator: "\n")
                func field(_ name: String) -> Substring {
                    status.first { $0.hasPrefix(name + ":") }?.split(separator: "\t").last ?? ""
                }
                #expect(field("NoNewPrivs") == "1")
                #expect(field("CapInh") == "0000000000000000" && field("CapAmb") == "0000000000000000")
                let permitted = UInt64(field("CapPrm"), radix: 16) ?? .max
                #expect(permitted.nonzeroBitCount <= 3, "capabilities kept: \(field("CapPrm"))")
                let root = try await laptop.host.must(["ls", "-A", "/proc/\(program.processID)/root/"])
                #expect(root == "", "an empty root file system")
                let descriptors = try await laptop.host.must(["sh", "-c", "readlink /proc/\(program.processID)/fd/*"])
                #expect(!descriptors.contains("/resolv.conf") && !descriptors.contains("/passwd"), "\(descriptors)")
            }
        }
    }
}
