// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The sockets are made while the program starts, with one thread and the file system in reach. The kernel accepts
// connections from then on, and early clients wait in the socket's queue. The control loop serves the sockets once
// everything else runs. Their files are removed at the end through the folder's descriptor, since the file system is
// out of reach by then.
//
// syscalls: setup(main): getpid

internal import Control
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import Options

/// The control sockets of an instance before they are served: ours, and with `-c` upstream's.
struct ControlSocketSetup: ~Copyable {
    /// The socket of our protocol.
    private var native: ControlSocket?
    /// The socket of upstream's protocol, with `-c` only.
    private var upstream: ControlSocket?

    /// Makes the sockets that the command line asks for.
    ///
    /// If the socket cannot be made at a given path, that is an error; the default socket is left out instead.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - files: receives the files to remove at the end.
    ///   - logger: where the lack of a socket is logged.
    /// - Throws: One line that names the path and the remedy.
    init(_ invocation: Invocation, files: ControlFiles, logger: Logger) throws(Failure) {
        if let path = invocation.controlPath {
            upstream = try Self.made(path, files)
            native = try Self.made("\(path).ctl", files)
        } else if !invocation.disablesControl, let folder = Self.runtimeFolder {
            do throws(ControlSocketError) {
                let socket = try ControlSocket.ofInstance(runtimeFolder: folder, process: getpid())
                files.add(socket.file)
                native = consume socket
            } catch {
                logger.debug("no control socket: \(error)")
            }
        }
    }

    /// Takes over the sockets of a supervisor, which has made them.
    init(_ handover: Handover, files: ControlFiles) {
        if let listener = handover.take(Handover.Name.control) {
            let socket = ControlSocket(continuing: listener)
            files.add(socket.file)
            native = consume socket
        }
        if let listener = handover.take(Handover.Name.upstreamControl) {
            let socket = ControlSocket(continuing: listener)
            files.add(socket.file)
            upstream = consume socket
        }
    }

    /// Gives the listening sockets away, each under its name.
    consuming func giveListeners(to keep: (String, consuming OwnedFileDescriptor) -> Void) {
        if let socket = native.take() { keep(Handover.Name.control, socket.takeListener()) }
        if let socket = upstream.take() { keep(Handover.Name.upstreamControl, socket.takeListener()) }
    }

    /// Whether the sockets must be made while the program is still root, because only root may write to their folder.
    ///
    /// This applies only to folders that root alone controls, because another user's links must not be followed
    /// (decision 0011).
    static func needsRoot(_ invocation: Invocation) -> Bool {
        if let path = invocation.controlPath { return OutputFile.isInTrustedFolder(path) }
        return runtimeFolder.map { OutputFile.isInTrustedFolder("\($0)/.tapas") } ?? false
    }

    /// Serves the sockets on the control loop.
    ///
    /// - Parameters:
    ///   - context: the parts of the instance that handlers use.
    ///   - files: retains the servers.
    consuming func serve(_ context: ControlContext, files: ControlFiles) {
        let loop = context.loop
        let logger = context.log.logger
        if let socket = native.take() {
            let commands = ControlCommands(loop: loop)
            let server = ControlServer(loop: loop, socket: socket, service: commands, logger: logger)
            files.retain(server)
            loop.perform {
                commands.assumeIsolated { $0.addAll(context) }
                server.assumeIsolated { server in
                    do throws(SystemCallError) { try server.start() } catch {
                        logger.warning("the control socket cannot be served: \(error)")
                    }
                }
            }
        }
        if let socket = upstream.take(), let ports = context.methods.ports {
            files.retain(
                PestoService.start(
                    socket, on: loop, context.invocation, context.methods.forwards, ports, logger: logger))
        }
    }

    private static func made(_ path: String, _ files: ControlFiles) throws(Failure) -> ControlSocket {
        do {
            let socket = try ControlSocket(path: path)
            files.add(socket.file)
            return socket
        } catch {
            throw Failure("-c/--conf-path \(error)")
        }
    }

    /// `XDG_RUNTIME_DIR`, if it is set to an absolute path.
    private static var runtimeFolder: String? {
        guard let value = unsafe getenv("XDG_RUNTIME_DIR") else { return nil }
        let path = unsafe String(cString: value)
        return path.hasPrefix("/") ? path : nil
    }
}

extension ControlCommands {
    /// Adds all methods.
    fileprivate func addAll(_ context: ControlContext) {
        addStatus(context)
        addExplain(context)
        addWatch(context)
        addWait(context)
        addRunning(context.methods)
        addEgress(context)
    }
}
