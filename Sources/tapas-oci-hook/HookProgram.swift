// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// An OCI runtime starts the hook twice in a container's life: in createRuntime, when the namespaces exist and the
// container's program does not run yet, and in poststop, when the container is gone. In createRuntime, the hook reads
// the state and the files, uses HookCommand to decide what to start, and starts tapas for the container's process. It
// ends when tapas has gone to the background, since the network is up then. A file in a private folder, named by the
// container's id, keeps the process id. In poststop, the hook ends that process, if it still runs, and removes the
// file.
//
// syscalls: running(hook): close openat unlink

import ArgumentParser
import Glibc
import LinuxSystem
import NetworkTypes
import OCIHook
import SystemPackage

@main
struct HookProgram: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tapas-oci-hook",
        abstract: "Attaches tapas to the network namespace of an OCI container.",
        discussion: """
            An OCI runtime starts this program, with the container's state on standard input. See tapas-oci-hook(1).
            """,
        version: "tapas-oci-hook \(ProgramVersion.current)")

    @Argument(help: "The stage: createRuntime or poststop.")
    var stage: String?

    func run() throws {
        do throws(HookError) {
            let stage = try HookStage(argument: stage)
            let state = try ContainerState(parsing: try HookFiles.standardInput(limit: ContainerState.greatestLength))
            try stage.check(state)
            switch stage {
            case .createRuntime: try Self.attach(state)
            case .poststop: try Cleanup(state).run()
            }
        } catch {
            HookFiles.writeError("tapas-oci-hook: \(error)")
            throw ExitCode.failure
        }
    }

    /// Starts tapas for a container and waits until the network is up.
    private static func attach(_ state: ContainerState) throws(HookError) {
        let places = HookPaths()
        let system = try configuration(places.systemConfiguration)
        let user = try places.userConfiguration.map { path throws(HookError) in try configuration(path) }
        guard let command = try HookCommand.make(for: state, system: system, user: user ?? HookConfiguration()) else {
            return
        }
        if !command.namesNamespace { try checkNamespace(of: state.processID) }
        let folder = try places.runFolder()
        guard let name = state.fileName else { throw HookError("container \(state.id)", "its id is too long") }
        let pidFile = "\(folder)/\(name).pid"
        var arguments = command.arguments + ["--pid", pidFile]
        if !command.namesNamespace { arguments.append("\(state.processID)") }
        let program = try places.tapas()
        let outcome = try ChildProcess.run(program, arguments)
        guard outcome.isSuccess else {
            unsafe unlink(pidFile)
            let sources = command.sources.isEmpty ? "" : " with \(command.sources.joined(separator: " and "))"
            throw HookError("tapas\(sources)", outcome.problem)
        }
        for line in outcome.errorLines { HookFiles.writeError("tapas-oci-hook: \(line.escapingControlCharacters)") }
    }

    private static func configuration(_ path: String) throws(HookError) -> HookConfiguration {
        guard let bytes = try HookFiles.read(path, limit: HookConfiguration.greatestLength) else {
            return HookConfiguration()
        }
        return try HookConfiguration(parsing: bytes, path: path)
    }

    /// Checks that the namespaces of the container's process may be opened; the error names a remedy.
    private static func checkNamespace(of process: Int32) throws(HookError) {
        let path = "/proc/\(process)/ns/net"
        do {
            _ = try OwnedFileDescriptor.open(path, .readOnly)
        } catch {
            guard [.permissionDenied, .notPermitted].contains(error.errno) else {
                throw HookError("cannot open \(path)", error.errno.explanation)
            }
            throw HookError(
                "cannot open \(path)",
                "\(error.errno.explanation): the runtime's process is not dumpable; start the runtime inside a user "
                    + "namespace (unshare -Ur, or Podman), or name the namespace with --netns in "
                    + "\(HookCommand.optionsAnnotation) or in options of hook.conf")
        }
    }
}
