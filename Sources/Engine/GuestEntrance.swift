// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// A virtual machine connects to a socket that the program listens on, or is connected to a descriptor that the program
// was started with. The descriptor is checked first, and kept when other descriptors are closed. The socket is made
// while the file system is accessible, before or after the change of user like the control sockets
// (`ControlSocketSetup.needsRoot`), and its file is removed at the end. The data path's link serves the clients
// (`LinkSource`): another transport is one more case there and in ``link()``.

internal import Control
internal import Forwarding
internal import LinuxSystem
internal import Logging
internal import Options
internal import SystemPackage

/// The socket or descriptor by which a virtual machine is connected.
struct GuestEntrance: ~Copyable {
    /// The greatest number of sockets /tmp/passt_N.socket.
    private static let mostSockets = 100

    private let machine: VirtualMachineLink
    private var handedOver: LinkSource?
    private var listener: OwnedFileDescriptor?
    /// The descriptor of `--fd`, which must stay open, lent.
    let descriptors: [FileDescriptor]

    /// Takes the descriptor of `--fd`, if there is one; nil if a namespace gets the network.
    ///
    /// - Throws: One line, if it cannot carry frames.
    init?(_ invocation: Invocation) throws(Failure) {
        guard let machine = invocation.virtualMachine else { return nil }
        self.machine = machine
        guard case .descriptor(let number) = machine.place else {
            descriptors = []
            return
        }
        do throws(LinkSource.Refusal) {
            var source = try LinkSource.handedOver(number)
            if machine.transport == .vhostUser { source = try source.speakingVhostUser() }
            descriptors = [source.descriptor]
            handedOver = consume source
        } catch {
            throw Failure("\(OptionDescription.of(.fd).displayName) \(number): \(error)")
        }
    }

    /// Whether the socket must be made while the program is still root (``ControlSocketSetup/needsRoot(_:)``).
    var needsRoot: Bool {
        switch machine.place {
        case .descriptor: false
        case .firstFree: OutputFile.isInTrustedFolder(Self.path(1))
        case .path(let path): OutputFile.isInTrustedFolder(path)
        }
    }

    /// Makes the socket, unless there is a descriptor.
    ///
    /// - Parameters:
    ///   - files: records the socket's file, which is removed at the end.
    ///   - logger: receives the line that says how to start a virtual machine.
    /// - Throws: One line that names the path and the remedy.
    mutating func listen(_ files: ControlFiles, _ logger: Logger) throws(Failure) {
        let socket: ControlSocket
        switch machine.place {
        case .descriptor: return
        case .firstFree: socket = try Self.firstFree()
        case .path(let path):
            do throws(ControlSocketError) {
                socket = try ControlSocket(path: path)
            } catch {
                throw Failure("\(OptionDescription.of(.socket).displayName) \(error)")
            }
        }
        files.add(socket.file, isForControl: false)
        let path = socket.file.path
        logger.notice("virtual machines connect to \(path)")
        let isStream = machine.transport == .stream
        logger.info("QEMU: \(isStream ? Self.streamArguments(path) : Self.vhostUserArguments(path))")
        listener = socket.takeListener()
    }

    /// The link of the data path.
    mutating func link() throws(Failure) -> LinkSource {
        if let handedOver = handedOver.take() { return handedOver }
        guard let listener = listener.take() else { throw Failure("there is no socket for a virtual machine") }
        let source = LinkSource.Listener(listener, isForOneClient: machine.isForOneClient)
        return machine.transport == .stream ? .streamListener(source) : .vhostUserListener(source)
    }

    /// How QEMU connects to a stream socket.
    private static func streamArguments(_ path: String) -> String {
        "-device virtio-net-pci,netdev=s -netdev stream,id=s,server=off,addr.type=unix,addr.path=\(path)"
    }

    /// How QEMU connects with vhost-user; its memory must be shared.
    private static func vhostUserArguments(_ path: String) -> String {
        "-m 1G -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m "
            + "-device virtio-net-pci,netdev=s -netdev vhost-user,id=s,chardev=c -chardev socket,id=c,path=\(path)"
    }

    private static func path(_ number: Int) -> String { "/tmp/passt_\(number).socket" }

    /// Sockets of another instance or another user are skipped.
    private static func firstFree() throws(Failure) -> ControlSocket {
        for number in 1...mostSockets {
            do throws(ControlSocketError) {
                return try ControlSocket(path: path(number))
            } catch {
                guard number == mostSockets else { continue }
                throw Failure(
                    "\(OptionDescription.of(.socket).displayName): none of \(path(1)) to \(path(number)) is to be had "
                        + "(\(error)); give a path")
            }
        }
        throw Failure("\(OptionDescription.of(.socket).displayName): give a path")
    }
}
