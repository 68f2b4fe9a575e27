// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): recvmsg sendto
// syscalls: running(ports): recvmsg sendto

internal import CLinux
internal import Glibc
package import LinuxSystem
package import NetworkModel
package import NetworkTypes
internal import SystemPackage

/// A socket that lists the sockets of a network namespace (sock_diag(7)).
package final class SocketDiagnostics {
    private let socket: OwnedFileDescriptor
    private var sequence: UInt32 = 0
    private var buffer = [UInt8](repeating: 0, count: 32768)

    /// Takes a netlink socket of the protocol `NETLINK_SOCK_DIAG`, made in the network namespace in question.
    package init(taking socket: consuming OwnedFileDescriptor) {
        self.socket = socket
    }

    /// Lists the sockets of a family and protocol that can be connected to.
    ///
    /// - Parameters:
    ///   - family: the family.
    ///   - transport: the protocol.
    ///   - sockets: where they are added to.
    /// - Returns: Whether the kernel answered in full; a family that the kernel does not have has no sockets.
    package func list(
        _ family: AddressFamily, _ transport: TransportProtocol, into sockets: inout [ListedSocket]
    ) -> Bool {
        ask(SocketListMessage.dump(family, transport)) { datagram, sequence in
            SocketListMessage.parse(datagram, sequence: sequence, into: &sockets)
        }
    }

    /// Lists the TCP connections of a family.
    ///
    /// - Returns: Whether the kernel answered in full.
    package func list(_ family: AddressFamily, into connections: inout [ListedConnection]) -> Bool {
        ask(SocketListMessage.dumpConnections(family)) { datagram, sequence in
            SocketListMessage.parse(datagram, sequence: sequence, into: &connections)
        }
    }

    private func ask(
        _ message: consuming MessageWriter, _ parse: (Span<UInt8>, UInt32) -> SocketListMessage.Progress
    ) -> Bool {
        sequence &+= 1
        var writer = message
        let request = writer.finish(sequence: sequence, portID: 0)
        let number = socket.rawValue
        let sent = transferring { unsafe send(number, request, request.count, 0) }
        guard sent == .bytes(request.count) else { return false }
        while true {
            // The kernel produces a dump while it is read, so there is nothing to wait for.
            var sender: UInt32 = .max
            let result = transferring {
                unsafe buffer.withUnsafeMutableBytes {
                    unsafe tapas_netlink_receive(number, $0.baseAddress, $0.count, &sender)
                }
            }
            guard case .bytes(let count) = result, count > 0, count <= buffer.count else { return false }
            // A process with privileges in the namespace can send to this socket, too.
            guard sender == 0 else { continue }
            switch parse(buffer.span.extracting(..<count), sequence) {
            case .more: continue
            case .done: return true
            case .failed(let error): return error == .noSuchFileOrDirectory || error == .invalidArgument
            }
        }
    }
}
