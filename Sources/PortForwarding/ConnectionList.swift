// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(namespace): close

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Netlink
public import NetworkTypes

/// Lists the TCP connections of the calling thread's network namespace (sock_diag(7)).
public enum ConnectionList {
    /// The ends of a connection: the namespace's, and the other.
    public typealias Ends = (guest: IPv6Address, guestPort: UInt16, remote: IPv6Address, remotePort: UInt16)

    /// The connections that leave the namespace; none where the kernel does not list them.
    public static func leaving() -> [Ends] {
        let request = NamespaceRequest.socket(
            domain: AF_NETLINK, type: CInt(SOCK_RAW.rawValue), ipProtocol: NETLINK_SOCK_DIAG)
        guard let socket = try? request.open() else { return [] }
        let diagnostics = SocketDiagnostics(taking: OwnedFileDescriptor(taking: socket))
        var listed: [ListedConnection] = []
        for family in AddressFamily.allCases { _ = diagnostics.list(family, into: &listed) }
        return listed.filter { !$0.isLocal }.map { ($0.local, $0.localPort, $0.remote, $0.remotePort) }
    }
}
