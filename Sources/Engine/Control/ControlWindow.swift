// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The sockets are made while the program starts, with one thread and the file system in reach, and accept clients from
// the kernel's point of view at once: whoever connects early waits in the socket's queue. They are served by the control
// loop once everything else is. Their files are removed at the end by way of the folder's descriptor, since the file
// system is out of reach by then.
//
// syscalls: setup(main): getpid

internal import Control
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import Options

/// The control sockets of an instance before they are served: ours, and with `-c` upstream's.
struct ControlWindow: ~Copyable {
    /// Speaks our protocol.
    private var native: ControlSocket?
    /// Speaks upstream's; with `-c` only.
    private var upstream: ControlSocket?

    /// Makes the sockets that the command line asks for.
    ///
    /// A path that was given must be had. The one that is not asked for is left out where it cannot be.
    ///
    /// - Parameters:
    ///   - invocation: the command line.
    ///   - files: takes note of what is to be removed at the end.
    ///   - logger: where to tell that there is no socket.
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

    /// Whether the sockets have to be made while the program still is root, because only root may write to their folder.
    ///
    /// Only where root alone decides what is there: another user's links must not be followed (decision 0011).
    static func needsRoot(_ invocation: Invocation) -> Bool {
        if let path = invocation.controlPath { return OutputFile.isInTrustedFolder(path) }
        return runtimeFolder.map { OutputFile.isInTrustedFolder("\($0)/.tapas") } ?? false
    }

    /// Serves the sockets on the control loop.
    ///
    /// - Parameters:
    ///   - context: what the instance has to show.
    ///   - files: keeps the servers.
    consuming func serve(_ context: ControlContext, files: ControlFiles) {
        let loop = context.loop
        let logger = context.log.logger
        if let socket = native.take() {
            let commands = ControlCommands(loop: loop)
            let server = ControlServer(loop: loop, socket: socket, service: commands, logger: logger)
            files.keep(server)
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
            files.keep(
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
    /// Adds the methods of all rooms.
    fileprivate func addAll(_ context: ControlContext) {
        addStatus(context)
        addExplain(context)
        addWatch(context)
        addWait(context)
        addRunning(context.methods)
    }
}
