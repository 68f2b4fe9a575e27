// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Finds the process that has a port that was refused. That is possible only before the file system is given up, and
// only for processes that may be inspected: those of the same user, and none from inside a user namespace of our own.
// So the owners of the requested ports are determined at the very start.
//
// syscalls: setup(main): close fcntl fstat getdents64 geteuid newfstatat openat read readlinkat
// syscalls: running(ports): close geteuid openat read

internal import Glibc
internal import LinuxSystem
internal import Netlink
public import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// The owners of the ports of the host that explicit rules request.
public struct PortHolders: Sendable {
    private struct Place: Hashable {
        var transport: TransportProtocol
        var port: UInt16
    }

    private var holders: [Place: PortHolder] = [:]

    /// Makes an empty list.
    public init() {}

    /// Finds the owners, in the calling thread's network namespace.
    ///
    /// - Parameter rules: the rules, of which the explicit inbound ones count.
    public init(of rules: [PortForward]) {
        let wanted = rules.filter { $0.direction == .inbound && $0.policy == .explicit }
        guard !wanted.isEmpty, let sockets = ListeningSockets(NamespaceRequest.answers) else { return }
        for transport in [TransportProtocol.tcp, .udp] {
            let rules = wanted.filter { $0.transport == transport }
            guard !rules.isEmpty, let listed = sockets.list(transport) else { continue }
            for socket in listed {
                let place = Place(transport: transport, port: socket.port)
                guard holders[place] == nil,
                    rules.contains(where: { ($0.first.rawValue...$0.last.rawValue).contains(socket.port) })
                else { continue }
                holders[place] = PortHolder(of: socket)
            }
        }
    }

    subscript(transport: TransportProtocol, port: UInt16) -> PortHolder? {
        holders[Place(transport: transport, port: port)]
    }
}

/// The process that listens on a port of the host.
struct PortHolder: Sendable {
    /// The process, if it can be determined.
    var process: SocketOwner?
    /// The user that the socket belongs to.
    var user: UInt32?

    /// Finds the owner of a socket.
    init(of socket: ListedSocket) {
        user = socket.user
        process = SocketOwner(of: socket.inode)
    }

    /// Whether it may be an instance of this program that is about to end, so that waiting a moment is worthwhile.
    var mayBeSibling: Bool {
        if let process { return process.name == SocketOwner.name(of: "self") }
        return user == nil || user == geteuid()
    }

    /// `nginx, process 1234`; nil if unknown.
    var description: String? {
        process?.description
    }
}
