// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NamespaceControl
internal import NativeSockets
internal import Options
internal import Sandbox
internal import SystemPackage

/// The namespaces, created or joined, and the command's init that waits in them; set up with one thread only.
struct NamespaceSetup: ~Copyable {
    /// The network namespace that was named on the command line.
    private var given: NamespaceFile?
    /// The helper that opens the tun device if the program itself may not.
    var opener: DeviceOpener?
    /// The wrapped command; nil if attached.
    let command: WrappedCommand?
    /// The signals that the program handles.
    let signals: SignalDescriptor
    /// The supervisor of native sockets; nil without `--native-sockets`.
    let supervisor: SupervisorProcess?

    /// Gives up root, enters the user namespace, and creates the other namespaces or uses the given one.
    ///
    /// - Throws: One line on what is not permitted or does not exist.
    init(
        _ invocation: Invocation, _ namespaces: consuming GivenNamespaces, becoming identity: Identity?,
        helpers: HelperProcesses, _ logger: Logger
    ) throws {
        var opener: DeviceOpener?
        if let identity {
            opener = try DeviceOpener.fork(beforeBecoming: identity.user, group: identity.group)
            if invocation.runAsUser == nil { logger.notice("started as root: going on as nobody (see --runas)") }
            do {
                try identity.become()
            } catch {
                throw Failure("cannot become user \(identity.user), group \(identity.group)", error)
            }
        }
        // Neither processes of the user namespace nor other processes of the user `nobody` may trace this process. The
        // maps of its own user namespace must be written before that.
        if let user = namespaces.user.take() {
            try ProcessLimits.forbidTracing()
            try user.join()
        } else {
            // A virtual machine needs no namespace; the program itself does, to take its file system away.
            let isMade = invocation.isSpawn && !invocation.netnsOnly || invocation.virtualMachine != nil
            if isMade { try UserNamespace.create() }
            try ProcessLimits.forbidTracing()
        }
        let given = namespaces.network.take()
        if invocation.isSpawn {
            let signals = try SignalDescriptor(of: SignalDescriptor.forwarded)
            var specification = Self.specification(invocation)
            var forked: SupervisorProcess?
            if invocation.usesNativeSockets {
                let result = try SupervisorProcess.fork(for: invocation, helpers: helpers)
                specification.supervision = .init(channel: result.command, filter: SupervisorProcess.commandFilter())
                forked = result.supervisor
            }
            let subject: FilteredSubject = specification.resolverText == nil ? .commandInit : .commandInitWithResolver
            let filter = try Filters.make(for: subject, invocation)
            command = try WrappedCommand(
                specification, signalMask: signals.previousMask, filter: filter.program)
            supervisor = forked
            self.signals = signals
        } else {
            let signals = try SignalDescriptor(
                of: SignalDescriptor.ending, unlessIgnored: SignalDescriptor.interrupting)
            command = nil
            supervisor = nil
            self.signals = signals
        }
        self.given = given
        self.opener = opener
    }

    /// The network namespace that gets the host's network; to be called once.
    ///
    /// - Throws: If the command's init could not open it.
    mutating func takeNetwork() throws -> NamespaceFile {
        if let given = given.take() { return given }
        guard let command else { throw Failure("there is no network namespace to connect") }
        return try command.networkNamespace()
    }

    private static func specification(_ invocation: Invocation) -> WrappedCommand.Specification {
        var result: WrappedCommand.Specification
        if case .spawn(let words) = invocation.mode, let file = words.first {
            result = .init(file: file, arguments: words, argumentIndex: invocation.operandIndex)
        } else {
            result = .shell()
        }
        result.resolverText = CommandResolver.text(invocation)
        result.hostName = invocation.hostname ?? WrappedCommand.defaultHostName()
        return result
    }
}
