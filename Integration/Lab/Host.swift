// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc

/// The user that runs a program in a host.
public enum User: String, Sendable, CaseIterable {
    /// The root of a user namespace that is not the machine's first: how a container engine runs its networker.
    case namespaceRoot = "root of a user namespace"
    /// A user without any privilege: how a person runs it.
    case ordinary = "ordinary user"
}

/// A host of the lab: a network, a mount and a UTS namespace, held open by a process that does nothing.
public final class Host: Sendable {
    /// The host's name.
    public let name: String
    /// The lab that the host belongs to.
    public let lab: Lab
    private let congestionControl: String
    private let holder: Program

    init(name: String, congestionControl: String, holder: Program, lab: Lab) {
        self.name = name
        self.congestionControl = congestionControl
        self.holder = holder
        self.lab = lab
    }

    /// The process that holds the namespaces.
    public var processID: Int32 { holder.processID }

    /// The network namespace as a file.
    public var networkNamespace: String { "/proc/\(processID)/ns/net" }

    /// Ends the process that holds the namespaces; a namespace that no other process holds ends with it.
    public func vanish() async throws {
        holder.sendToGroup(SIGKILL)
        _ = try await holder.end()
    }

    // MARK: - Programs

    /// Starts a program in the host.
    ///
    /// - Parameters:
    ///   - arguments: The command line.
    ///   - user: The user that runs it.
    ///   - environment: Variables set besides those inherited.
    ///   - tested: True for the program under test: the lab fails when it crashes.
    /// - Returns: The running program.
    /// - Throws: `SubprocessError` when it cannot be started.
    public func start(
        _ arguments: [String], as user: User = .namespaceRoot, environment: [String: String] = [:],
        tested: Bool = false
    ) async throws -> Program {
        let enter = ["nsenter", "-t", "\(processID)", "-n", "-m", "-u", "--"]
        return try await lab.start(
            try await enter + prefix(for: user) + arguments, shownAs: "[\(name)] " + arguments.joined(separator: " "),
            environment: ["TAPAS_LAB_CONGESTION": congestionControl].merging(environment) { _, new in new },
            tested: tested)
    }

    /// Runs a program in the host to its end.
    ///
    /// - Parameters:
    ///   - arguments: The command line.
    ///   - user: Who runs it.
    ///   - environment: Variables set besides those inherited.
    ///   - limit: After this time it is killed and an error thrown.
    /// - Returns: What it left.
    /// - Throws: `LabError` at the limit.
    public func run(
        _ arguments: [String], as user: User = .namespaceRoot, environment: [String: String] = [:],
        within limit: Duration = .seconds(20)
    ) async throws -> Outcome {
        try await start(arguments, as: user, environment: environment).end(within: limit)
    }

    /// Runs a program that must succeed, and returns what it wrote.
    ///
    /// - Parameters:
    ///   - arguments: The command line.
    ///   - limit: After this time it is killed and an error thrown.
    /// - Returns: Standard output.
    /// - Throws: `LabError` when the exit status is not 0.
    @discardableResult
    public func must(_ arguments: [String], within limit: Duration = .seconds(20)) async throws -> String {
        let outcome = try await run(arguments, within: limit)
        guard outcome.status == 0 else { throw LabError("\(outcome)") }
        return outcome.output
    }

    /// Runs one of the lab's helper programs that must succeed.
    ///
    /// - Parameters:
    ///   - program: Its file name in `Integration/Lab/Programs`.
    ///   - arguments: Its arguments.
    ///   - limit: After this time it is killed and an error thrown.
    /// - Returns: Standard output without the last line's end.
    /// - Throws: `LabError` when the exit status is not 0.
    @discardableResult
    public func python(
        _ program: String, _ arguments: String..., within limit: Duration = .seconds(60)
    ) async throws -> String {
        let output = try await must(["python3", LabFiles.program(program)] + arguments, within: limit)
        return output.hasSuffix("\n") ? String(output.dropLast()) : output
    }

    /// Starts one of the lab's helper programs and waits until it says that it is ready.
    ///
    /// - Parameters:
    ///   - program: Its file name in `Integration/Lab/Programs`.
    ///   - arguments: Its arguments.
    ///   - ready: What it says.
    /// - Returns: The running program.
    /// - Throws: `LabError` when it ends before.
    @discardableResult
    public func startPython(
        _ program: String, _ arguments: String..., ready: String = "ready"
    ) async throws -> Program {
        let program = try await start(["python3", LabFiles.program(program)] + arguments)
        try await program.wrote(ready)
        return program
    }

    /// The prefix of a command line that makes a user run it.
    ///
    /// If the run's user namespace has many user ids, the ordinary user is one of them and owns nothing. If it has only
    /// one, the ordinary user is a user id in a nested user namespace, which owns nothing else. There is one such
    /// namespace for the whole lab, so that the user's processes can inspect each other.
    private func prefix(for user: User) async throws -> [String] {
        switch user {
        case .namespaceRoot: []
        case .ordinary where User.areSeveral:
            ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", "--inh-caps=-all", "--"]
        case .ordinary:
            ["nsenter", "-t", "\(try await lab.ordinaryUser())", "-U", "--preserve-credentials", "--"]
        }
    }

    // MARK: - Network

    /// Gives `ip -batch` lines to the host.
    ///
    /// - Parameter lines: Commands without the leading `ip`; a line that begins with `-6` is for IPv6.
    /// - Throws: `LabError` with the kernel's word.
    public func ip(_ lines: String...) async throws {
        let commands = lines.flatMap { $0.split(separator: "\n") }.map { line in
            "ip " + line.trimmed
        }
        try await must(["sh", "-e", "-c", commands.joined(separator: "\n")])
    }

    /// Sets a kernel variable of the host's network namespace.
    ///
    /// - Parameters:
    ///   - name: With slashes, below /proc/sys: `net/ipv4/ip_forward`.
    ///   - value: The value to write.
    /// - Throws: `LabError` when the kernel refuses.
    public func set(_ name: String, to value: String) async throws {
        try await must(["sh", "-c", "echo '\(value)' > /proc/sys/\(name)"])
    }

    /// The kernel's state of the host: links, addresses and routes as canonical lines.
    public func networkState() async throws -> [String] {
        try await python("netstate.py").split(separator: "\n").map(String.init)
    }

    /// Makes the host's `/etc/resolv.conf` this text, in the host only.
    ///
    /// - Parameter text: The file's contents.
    /// - Throws: `LabError` when it cannot be mounted.
    public func resolver(_ text: String) async throws {
        let file = "\(lab.directory)/\(name).resolv.conf"
        try await must(["sh", "-c", "printf '%s' '\(text)' > \(file); mount --bind \(file) /etc/resolv.conf"])
    }
}

extension User {
    /// Whether the run's user namespace has user ids besides root's: it has if root started the run.
    public static var areSeveral: Bool { hasManyIdentifiers }

    private static let hasManyIdentifiers: Bool = {
        let fields = contents(of: "/proc/self/uid_map").split(whereSeparator: \.isWhitespace).compactMap { Int($0) }
        return fields.count > 3 || (fields.last ?? 0) > 4242
    }()
}

extension Substring {
    var trimmed: Substring {
        drop { $0 == " " }
    }
}
