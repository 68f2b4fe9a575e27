// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

/// A laptop whose server has a network 50 ms away.
///
///     guest ══ tapas in host ── eth0 ── server ── far (25 ms each way) ── far-away
///                                                                         198.51.100.1
private struct FloodedLaptop {
    static let farAway = "198.51.100.1"
    /// The limit of open files of tapas in most tests: large enough to show the behaviour at the limit, and small
    /// enough to reach it soon.
    static let openFiles = 4000

    let laptop: Laptop
    let program: Program

    init(
        in lab: Lab, _ options: [String] = ["--config-net", "-u", "6000"], openFiles: Int = Self.openFiles
    ) async throws {
        laptop = try await Laptop(in: lab)
        let far = try await lab.host("far-away", congestionControl: "cubic")
        try await laptop.server.startPython("flood.py", "delay", "\(far.processID)", "25")
        try await laptop.server.ip("link set far up", "route add 198.51.100.0/24 dev far")
        try await laptop.server.set("net/ipv4/ip_forward", to: "1")
        try await far.ip(
            "address add 198.51.100.1/32 dev eth0", "link set eth0 up", "link set lo up", "route add default dev eth0")
        try await far.startPython("flood.py", "serve", "7200")
        try await laptop.server.startPython("flood.py", "serve", "7300")
        let path = try await laptop.host.nameFile(of: laptop.guest)
        let pidFile = lab.newPath("pid")
        let command = [binary] + options + ["--foreground", "--pid", pidFile, "--netns", path]
        program = try await laptop.host.start(
            ["sh", "-c", "ulimit -n \(openFiles); exec \"$@\"", "sh"] + command, tested: true)
        try await eventually("tapas is ready") { [program] in
            if let ended = program.termination { throw LabError("tapas: \(ended)\n\(program.errors)") }
            return contents(of: pidFile).hasSuffix("\n")
        }
    }

    /// Descriptors that tapas has open.
    func descriptors() async throws -> Int {
        let text = try await laptop.host.must(["sh", "-c", "ls /proc/\(program.processID)/fd | wc -l"])
        return text.split(separator: "\n").first.flatMap { Int($0.filter { $0 != " " }) } ?? 0
    }

    /// The memory that tapas has, in kB.
    var memory: Int {
        contents(of: "/proc/\(program.processID)/status").split(separator: "\n").first { $0.hasPrefix("VmRSS:") }
            .flatMap { $0.split(separator: " ").dropLast().last.flatMap { Int($0) } } ?? 0
    }
}

/// The report of `flood.py pulse` about new connections.
private struct Pulse: CustomStringConvertible {
    let description: String
    let succeeded: Int
    let failed: Int
    /// Seconds until the last slow one was over.
    let slowUntil: Double

    init(_ text: String) throws {
        description = text
        let words = text.split(separator: " ").map(String.init)
        func number(after word: String) throws -> Double {
            let position = try #require(words.firstIndex(of: word), "\(text)")
            return try #require(Double(words[position + 1]), "\(text)")
        }
        succeeded = Int(try number(after: "ok"))
        failed = Int(try number(after: "failed"))
        slowUntil = try number(after: "until")
    }
}

extension Scenarios {
    /// Floods and greedy peers (issue 19): flows of the largest sender are evicted for the others.
    @Suite("floods and greedy peers", .serialized, .timeLimit(.minutes(3))) struct Floods {
        /// What fills the table.
        enum Kind: String, CaseIterable, Sendable {
            case spoofed = "datagrams from spoofed addresses to a forwarded port"
            case echo = "echo requests from the namespace"
            case datagrams = "datagrams from the namespace"

            /// The flood's command line: at a rate, so many packets.
            func command(_ rate: Int, _ count: Int) -> [String] {
                let program = ["python3", helperProgram("flood.py")]
                let numbers = ["\(rate)", "\(count)"]
                switch self {
                case .spoofed: return program + ["spoof"] + numbers + [Laptop.own[0], "6000"]
                case .echo: return program + ["echo", "eth0"] + numbers + [Laptop.own[0], "192.0.2.77"]
                case .datagrams: return program + ["udp", "eth0"] + numbers + [Laptop.own[0], Laptop.beyond[0]]
                }
            }
        }

        /// As many open files as the issue was measured with, if the machine lets us have so many.
        private static let manyOpenFiles: Int = {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            return min(20_000, Int(clamping: limit.rlim_max))
        }()

        @Test(
            "with all descriptors in use and more wanted, new connections succeed and none is lost",
            arguments: Kind.allCases.map { ($0, FloodedLaptop.openFiles) } + [(.datagrams, manyOpenFiles)])
        func withAllDescriptorsInUse(kind: Kind, openFiles: Int) async throws {
            try await withLab { lab in
                let flooded = try await FloodedLaptop(in: lab, openFiles: openFiles)
                let guest = flooded.laptop.guest
                let source = kind == .spoofed ? flooded.laptop.server : guest
                let held = try await guest.startPython("flood.py", "hold", FloodedLaptop.farAway, "7200", "100")
                let filling = try await source.start(kind.command(openFiles, openFiles * 3 / 2))
                _ = try await filling.end()
                let used = try await flooded.descriptors()
                let flood = try await source.start(kind.command(500, 2500))
                let pulse = try Pulse(
                    try await guest.python("flood.py", "pulse", FloodedLaptop.farAway, "7200", "25", "4"))
                _ = try await flood.end()
                print("measured: \(kind.rawValue), \(used) of \(openFiles) descriptors in use: \(pulse)")
                print("measured: memory \(flooded.memory) kB")
                #expect(pulse.succeeded * 100 >= (pulse.succeeded + pulse.failed) * 95, "\(pulse)")
                held.send(SIGUSR1)
                #expect(try await held.end().output.contains("held 100 lost 0"))
                #expect(flooded.memory < 40_000)
                // There are at most 4,096 echo flows, and requests to one host count as a flood.
                if kind != .echo {
                    #expect(used > openFiles * 9 / 10, "the bound was not met: the test shows nothing")
                    try await eventually("it says which flows had to go, and how to raise the bound") {
                        flooded.program.errors.contains("given up to make room")
                            && flooded.program.errors.contains("ulimit -n")
                    }
                }
            }
        }

        @Test(
            "requests go on during a flood of opens, and are normal within 2 s after it", arguments: ["7200", "7300"])
        func requestsGoOnDuringAFloodOfOpens(port: String) async throws {
            try await withLab { lab in
                let flooded = try await FloodedLaptop(in: lab)
                try await flooded.laptop.server.startPython("flood.py", "serve", "7200")
                let guest = flooded.laptop.guest
                let before = try Pulse(try await guest.python("flood.py", "pulse", Laptop.beyond[0], "7300", "0", "2"))
                let flood = try await guest.start(
                    [
                        "python3", helperProgram("flood.py"), "syn", "eth0", "10000", "30000", "192.0.2.200",
                        Laptop.beyond[0], port,
                    ])
                let during = try Pulse(try await guest.python("flood.py", "pulse", Laptop.beyond[0], "7300", "0", "2"))
                _ = try await flood.end()
                let after = try Pulse(try await guest.python("flood.py", "pulse", Laptop.beyond[0], "7300", "0", "4"))
                print("measured: requests in 2 s before a flood of opens to port \(port): \(before)")
                print("measured: in 2 s during it: \(during)")
                print("measured: in 4 s after it: \(after)")
                print("measured: memory \(flooded.memory) kB")
                #expect(after.failed == 0 && after.slowUntil <= 2, "\(after)")
                let undisturbed = min(before.succeeded, after.succeeded / 2)
                #expect(during.succeeded * 2 >= undisturbed, "\(before), during it \(during), after it \(after)")
                #expect(flooded.memory < 40_000)
            }
        }

        @Test("uploads to a server that never reads leave others their window, and their memory goes back")
        func uploadsThatNobodyReads() async throws {
            try await withLab { lab in
                let flooded = try await FloodedLaptop(in: lab)
                let guest = flooded.laptop.guest
                let deaf = try await flooded.laptop.server.startPython("flood.py", "deaf", "7400")
                try await flooded.laptop.server.startPython("flood.py", "drain", "7500")
                func fastestUpload() async throws -> (speed: Double, window: Int) {
                    var fastest = (speed: 0.0, window: 0)
                    for _ in 0..<3 {
                        let answer = try await guest.python("flood.py", "push", Laptop.beyond[0], "7500", "2")
                        let words = answer.split(separator: " ")
                        try #require(words.count == 2, "\(answer)")
                        fastest.speed = max(fastest.speed, Double(words[0]) ?? 0)
                        fastest.window = max(fastest.window, Int(words[1]) ?? 0)
                    }
                    return fastest
                }
                // By default the send buffers of 600 programs that are stuck hold more memory than the kernel gives to TCP
                // on the whole machine (tcp_mem), and then every connection is slow, with tapas or without.
                try await guest.set("net/ipv4/tcp_wmem", to: "4096 16384 131072")
                let before = try await fastestUpload()
                let memory = flooded.memory
                let stuck = try await guest.startPython(
                    "flood.py", "stuck", Laptop.beyond[0], "7400", "600", "\(4 << 20)")
                let filled = flooded.memory
                let during = try await fastestUpload()
                print("measured: upload, Gbit/s and window: \(before), beside 600 that nobody reads \(during)")
                #expect(during.window * 2 >= before.window, "\(before), then \(during)")
                #expect(filled > memory + 30_000, "nothing was kept: the test shows nothing")
                stuck.send(SIGUSR1)
                _ = try await stuck.end()
                deaf.send(SIGKILL)
                try await eventually("the memory goes back to the system") { flooded.memory < memory + 12_000 }
                let after = try await fastestUpload()
                print("measured: after them \(after)")
                // The machine's own speed wanders: of the two without them the lower counts.
                #expect(during.speed * 2 >= min(before.speed, after.speed), "\(before), \(during), \(after)")
                print("measured: memory \(memory) kB before, \(filled) kB with them, \(flooded.memory) kB afterwards")
            }
        }
    }
}
