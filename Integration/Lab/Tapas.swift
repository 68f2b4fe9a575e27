// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The path of the program under test: TAPAS_BINARY, or else the one that was built with the tests.
public var binary: String { (try? LabFiles.shared.get().binary) ?? "tapas" }

/// The path of the OCI hook that was built with it.
public var hookBinary: String { ((try? LabFiles.shared.get().directory) ?? "") + "/tapas-oci-hook" }

/// The path of the client of the control socket that was built with it.
public var controlBinary: String { ((try? LabFiles.shared.get().directory) ?? "") + "/tapasctl" }

/// Whether the tests run inside `contrib/dev/lab`: elsewhere they would have to make namespaces of the machine's own.
public var isInsideLab: Bool { environmentVariable("TAPAS_LAB_DIRECTORY") != nil }

extension Host {
    // MARK: - A command in a namespace that tapas makes

    /// Runs `tapas OPTIONS -- COMMAND` to its end.
    ///
    /// - Parameters:
    ///   - options: The options of tapas.
    ///   - command: The command, run in the connected namespace; none: the shell.
    ///   - user: The user that runs tapas.
    ///   - environment: Variables set besides those inherited.
    ///   - limit: After this time it is killed and an error thrown.
    /// - Returns: What it left.
    /// - Throws: `LabError` at the limit.
    public func tapas(
        _ options: [String], _ command: [String] = [], as user: User = .namespaceRoot,
        environment: [String: String] = [:], within limit: Duration = .seconds(20)
    ) async throws -> Outcome {
        try await startTapas(options, command, as: user, environment: environment).end(within: limit)
    }

    /// Starts `tapas OPTIONS -- COMMAND`.
    ///
    /// - Parameters:
    ///   - options: The options of tapas.
    ///   - command: The command, run in the connected namespace; none: the shell.
    ///   - user: Who runs tapas.
    ///   - environment: Variables set besides those inherited.
    /// - Returns: The running program.
    /// - Throws: `SubprocessError` when it cannot be started.
    public func startTapas(
        _ options: [String], _ command: [String] = [], as user: User = .namespaceRoot,
        environment: [String: String] = [:]
    ) async throws -> Program {
        let operands = command.isEmpty ? [] : ["--"] + command
        return try await start(
            [binary] + options + operands, as: user, environment: environment, tested: true)
    }

    // MARK: - A namespace that is there already

    /// Attaches tapas to a guest, in the foreground, and waits until it is ready.
    ///
    /// - Parameters:
    ///   - guest: The namespace; one without a cable.
    ///   - options: Options besides `--foreground`, `--pid` and `--netns`.
    /// - Returns: The running program.
    /// - Throws: `LabError` when it ends before it is ready.
    @discardableResult
    public func attach(_ guest: Host, _ options: [String] = ["--config-net"]) async throws -> Program {
        try await attach(path: try await nameFile(of: guest), options)
    }

    /// Gives a guest's network namespace a name in this host's file system, as Podman does: a file with the namespace
    /// mounted on it.
    ///
    /// - Parameter guest: The namespace.
    /// - Returns: The file.
    /// - Throws: `LabError` when it cannot be mounted.
    public func nameFile(of guest: Host) async throws -> String {
        let file = "/run/guests/\(guest.name)"
        try await must([
            "sh", "-ec",
            "mkdir -p /run/guests; if [ ! -e \(file) ]; then touch \(file); mount --bind \(guest.networkNamespace) \(file); fi",
        ])
        return file
    }

    /// Attaches tapas to a namespace file, in the foreground, and waits until it is ready.
    ///
    /// - Parameters:
    ///   - path: The namespace file.
    ///   - options: Options besides `--foreground`, `--pid` and `--netns`.
    /// - Returns: The running program.
    /// - Throws: `LabError` when it ends before it is ready.
    @discardableResult
    public func attach(path: String, _ options: [String] = ["--config-net"]) async throws -> Program {
        let pidFile = lab.newPath("pid")
        let program = try await startTapas(options + ["--foreground", "--pid", pidFile, "--netns", path])
        try await eventually("tapas is ready: its pid file has content") {
            let ended = program.termination
            if contents(of: pidFile).hasSuffix("\n") { return true }
            if let ended { throw LabError("tapas: \(ended) before it was ready\n\(program.errors)") }
            return false
        }
        return program
    }
}

extension Lab {
    /// A path in the lab's folder that nothing has yet.
    ///
    /// - Parameter name: The end of its name.
    /// - Returns: The path.
    public func newPath(_ name: String) -> String {
        "\(directory)/\(uniqueNumber())-\(name)"
    }
}
