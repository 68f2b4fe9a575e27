// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

extension Scenarios {
    /// Traffic that continues while a thread of tapas is busy, for example with reading back a namespace with many
    /// routes, or with a dump of the host's.
    ///
    /// The thread is stopped as by a debugger, so that it is busy for as long as the test needs.
    ///
    ///     guest ══ tapas in host ── eth0 ── server        (Laptop)
    @Suite("while another thread is busy", .timeLimit(.minutes(3))) struct BusyThreads {
        /// Round trips of one byte by UDP, and how long the longest took in milliseconds.
        static let echo = """
            import socket, sys, time
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(5)
            sock.connect((sys.argv[1], 7001))
            longest = 0
            for number in range(500):
                start = time.monotonic()
                sock.send(b"x")
                sock.recv(1)
                longest = max(longest, time.monotonic() - start)
            print(int(longest * 1000))
            """

        /// Many connections through a forwarded port, each of which asks and waits for its answer.
        static let clients = """
            import socket
            socks = [socket.create_connection(("127.0.0.1", 7001), timeout=60) for _ in range(100)]
            for sock in socks: sock.sendall(b"x")
            print("all have asked", flush=True)
            for sock in socks: assert sock.recv(1) == b"x"
            print("all are answered", flush=True)
            """

        @Test("traffic by the tap goes on", arguments: ["tapas-namespace", "tapas-ports"])
        func trafficByTheTap(thread: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let tapas = try await laptop.host.attach(
                    laptop.guest, ["--config-net", "-t", "7001-7013", "-u", "7001"])
                try await laptop.guest.startPython("serve.py")
                let freezer = try await laptop.host.startPython(
                    "freeze_thread.py", "\(tapas.processID)", thread, ready: "frozen")
                // More than there are sockets made in advance.
                let clients = try await laptop.host.start(["python3", "-c", Self.clients])
                try await clients.wrote("all have asked")
                // Not the router: its address is mapped to the host's loopback, where the forwarded ports are.
                let longest = try await laptop.guest.must(["python3", "-c", Self.echo, Laptop.beyond[0]])
                #expect(try #require(Int(longest.trimmingSpace)) < 1000, "ms")
                for address in Laptop.beyond {
                    try await laptop.guest.python("client.py", "download", address, "\(1 << 20)", "1")
                }
                if thread == "tapas-namespace" {
                    // Forwarded ports that need no socket of the namespace go on, too.
                    try await laptop.server.python("client.py", "download", Laptop.own[0], "\(1 << 20)", "2")
                }
                #expect(!clients.output.contains("all are answered"), "the thread was not stopped")
                freezer.send(SIGKILL)
                try await clients.wrote("all are answered")
            }
        }
    }
}

extension String {
    /// Without the end of the line.
    fileprivate var trimmingSpace: String { filter { !$0.isWhitespace } }
}
