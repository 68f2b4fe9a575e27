// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Synchronization
import SystemPackage

/// A small internet of network namespaces, made for one test and removed with it.
///
/// Theory of operation. The whole test run happens in user, network, mount and process namespaces of its own
/// (`contrib/dev/lab` makes them), never in the machine's. In there a `Lab` makes `Host`s: each is a process that does
/// nothing but hold a network, a mount and a UTS namespace open. `link` puts a cable between two of them. Programs are
/// run in a host by `nsenter`. Every program has the lab's mark in its environment, and at the end all processes with
/// the mark are ended, so that a failed test disturbs no other.
///
///     try await withLab { lab in
///         let host = try await lab.host("host")
///         let server = try await lab.host("server")
///         try await lab.link(host, "eth0", server, "eth0")
///         ...
///     }
public final class Lab: Sendable {
    /// A folder of this lab's own; everybody may read it and make files in it.
    public let directory: String
    /// The variable that marks every process of this lab.
    let mark: String

    /// Only the distribution's programs, because others may be in folders that an ordinary user cannot enter.
    private static let searchPath = "/usr/sbin:/usr/bin:/sbin:/bin"

    private struct State {
        var programs: [Program] = []
        var tested: [Program] = []
        var count = 0
        var ordinaryUser: Int32?
    }
    private let state = Mutex(State())

    private static let labCount = Atomic<Int>(0)

    fileprivate init() throws {
        let number = Lab.labCount.add(1, ordering: .relaxed).newValue
        mark = "\(getpid())-\(number)"
        directory = try LabFiles.shared.get().directory + "/" + mark
        try makeFolder(directory, mode: 0o1777)
    }

    // MARK: - Building

    /// Makes a host: a network namespace with nothing but `lo`, up.
    ///
    /// - Parameters:
    ///   - name: Its host name, also shown in messages.
    ///   - congestionControl: The congestion control of the helper programs' TCP. They set it for each socket, which
    ///     root of a namespace may always do; the namespace's default is set, too, if the kernel permits that.
    /// - Returns: The host.
    /// - Throws: `LabError` when the namespaces cannot be made.
    public func host(_ name: String, congestionControl: String = "cubic") async throws -> Host {
        let script = """
            set -e
            mount --make-rprivate /
            mount -t sysfs sysfs /sys
            mount -t tmpfs -o mode=755 tmpfs /run
            hostname \(name)
            ip link set lo up
            sysctl -q net.ipv4.tcp_congestion_control=\(congestionControl) 2> /dev/null || true
            sysctl -q net.ipv4.ping_group_range="0 2147483647" 2> /dev/null ||
                sysctl -q net.ipv4.ping_group_range="0 0"
            echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
            echo ready
            exec sleep infinity
            """
        let holder = try await start(
            ["unshare", "--net", "--mount", "--uts", "--", "sh", "-c", script], shownAs: "holder of \(name)")
        try await holder.wrote("ready")
        return Host(name: name, congestionControl: congestionControl, holder: holder, lab: self)
    }

    /// Puts a cable between two hosts, both ends up.
    ///
    /// - Parameters:
    ///   - first: One host.
    ///   - firstInterface: The name of the interface there.
    ///   - second: The other host.
    ///   - secondInterface: The name of the interface there.
    ///   - mtu: The MTU of both ends, in bytes.
    /// - Throws: `LabError` when the kernel refuses.
    public func link(
        _ first: Host, _ firstInterface: String, _ second: Host, _ secondInterface: String, mtu: Int = 1500
    ) async throws {
        let made = try await start(
            [
                "ip", "link", "add", "name", firstInterface, "mtu", "\(mtu)", "netns", "\(first.processID)", "type",
                "veth", "peer", "name", secondInterface, "mtu", "\(mtu)", "netns", "\(second.processID)",
            ], shownAs: "cable from \(first.name) to \(second.name)"
        ).end()
        guard made.status == 0 else { throw LabError("\(made)") }
        try await first.ip("link set \(firstInterface) up")
        try await second.ip("link set \(secondInterface) up")
    }

    // MARK: - Programs

    /// A number that this lab has not used before.
    func uniqueNumber() -> Int {
        state.withLock { state in
            state.count += 1
            return state.count
        }
    }

    /// Starts a program with the lab's mark; `tested` ones must not crash.
    func start(
        _ arguments: [String], shownAs command: String, environment: [String: String] = [:], tested: Bool = false
    ) async throws -> Program {
        let number = uniqueNumber()
        let program = try await Program.start(
            arguments, shownAs: command,
            environment: environment.merging(["TAPAS_LAB": mark, "PATH": Lab.searchPath]) { _, new in new },
            files: "\(directory)/program-\(number)")
        state.withLock { state in
            state.programs.append(program)
            if tested { state.tested.append(program) }
        }
        return program
    }

    /// A process in the ordinary user's user namespace, for a run that has only one user id.
    func ordinaryUser() async throws -> Int32 {
        if let known = state.withLock({ $0.ordinaryUser }) { return known }
        let holder = try await start(
            [
                "unshare", "--user", "--map-user=4242", "--map-group=4242", "--", "sh", "-c",
                "echo ready; exec sleep infinity",
            ], shownAs: "holder of the ordinary user")
        try await holder.wrote("ready")
        state.withLock { $0.ordinaryUser = holder.processID }
        return holder.processID
    }

    /// Processes of this lab that still run, except for the hosts' own and the programs that the lab has started.
    ///
    /// - Returns: `PID COMMAND` lines.
    public func strays() async throws -> [String] {
        let known = Set(state.withLock { $0.programs.map { "\($0.processID)" } })
        let seen = try await start(
            ["python3", LabFiles.program("left_behind.py"), "TAPAS_LAB=\(mark)"], shownAs: "list of processes"
        ).end()
        return seen.lines.filter { line in !known.contains(String(line.prefix { $0 != " " })) }
    }

    /// Ends everything; says so when the program under test had crashed.
    fileprivate func close() async throws {
        let (programs, tested) = state.withLock { ($0.programs, $0.tested) }
        let crashed = tested.filter { $0.termination?.isCrash == true }
        for program in programs.reversed() { program.sendToGroup(SIGKILL) }
        _ = try await start(
            ["python3", LabFiles.program("left_behind.py"), "TAPAS_LAB=\(mark)", "--kill"], shownAs: "end of the lab"
        ).end()
        for program in programs { _ = try? await program.end(within: .seconds(5)) }
        if let program = crashed.first {
            throw LabError("crashed: \(program.command)\n\(program.errors)")
        }
    }

    /// What every program of the lab wrote, for messages.
    fileprivate var transcript: String {
        state.withLock { $0.tested }.map { program in
            let ending = program.termination.map { "\($0)" } ?? "still running"
            return "$ \(program.command)\n\(ending)\n\(program.output)\(program.errors)"
        }.joined(separator: "\n")
    }
}

/// Makes a lab, does the work, and ends everything in the lab.
///
/// - Parameter work: The test; its error is rethrown together with the output of tapas.
/// - Returns: What the work returned.
/// - Throws: What the work threw, or `LabError` when the program under test crashed.
public func withLab<Result>(_ work: (Lab) async throws -> Result) async throws -> Result {
    let lab = try Lab()
    let result: Result
    do {
        result = try await work(lab)
    } catch {
        let transcript = lab.transcript
        try? await lab.close()
        throw transcript.isEmpty ? error : LabError("\(error)\n--- tapas wrote ---\n\(transcript)")
    }
    try await lab.close()
    return result
}
