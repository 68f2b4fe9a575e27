// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Finds the ports of a network namespace that have listening sockets. The kernel lists them by sock_diag(7). Where it
// refuses that, files of /proc/net are read that were opened while there was a /proc.
//
// syscalls: setup(main): close lseek read
// syscalls: running(ports): close lseek read

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Netlink
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// The ports listened on, by protocol.
struct ListeningPorts: Equatable {
    var tcp = PortSet()
    var udp = PortSet()

    subscript(transport: TransportProtocol) -> PortSet {
        get { transport == .tcp ? tcp : udp }
        set { if transport == .tcp { tcp = newValue } else { udp = newValue } }
    }
}

/// Lists the listening sockets of one network namespace, as often as needed.
struct ListeningSockets: ~Copyable {
    private enum Source {
        case diagnostics(SocketDiagnostics)
        case files([FileDescriptor])
    }

    /// The files of both protocols and families, each pair IPv4 first.
    private static let paths = ["tcp", "tcp6", "udp", "udp6"].map { "/proc/thread-self/net/\($0)" }

    private static let diagnostics = NamespaceRequest.socket(
        domain: AF_NETLINK, type: CInt(SOCK_RAW.rawValue), ipProtocol: NETLINK_SOCK_DIAG)

    /// The descriptors that either way of listing needs.
    static let requests = [diagnostics] + paths.map { NamespaceRequest.file($0) }

    private let source: Source

    /// Opens the descriptors in a namespace; nil if the kernel allows neither way.
    ///
    /// - Parameter open: makes descriptors in the namespace.
    init?(_ open: ([NamespaceRequest]) -> NamespaceAnswers) {
        if case .success(let descriptor)? = open([Self.diagnostics]).first {
            let diagnostics = SocketDiagnostics(taking: OwnedFileDescriptor(taking: descriptor))
            var sockets: [ListedSocket] = []
            if diagnostics.list(.v4, .tcp, into: &sockets) {
                source = .diagnostics(diagnostics)
                return
            }
        }
        let files = open(Self.paths.map { .file($0) }).map { try? $0.get() }
        // A kernel without IPv6 has two of the four.
        guard files[0] != nil, files[2] != nil else {
            for file in files { if let file { HostSocket.close(file.rawValue) } }
            return nil
        }
        source = .files(files.map { $0 ?? FileDescriptor(rawValue: -1) })
    }

    deinit {
        if case .files(let files) = source {
            for file in files where file.rawValue >= 0 { HostSocket.close(file.rawValue) }
        }
    }

    /// The ports listened on now; nil if the kernel did not answer in full.
    func ports() -> ListeningPorts? {
        guard let tcp = list(.tcp), let udp = list(.udp) else { return nil }
        return ListeningPorts(tcp: PortSet(tcp.map(\.port)), udp: PortSet(udp.map(\.port)))
    }

    /// The sockets of a protocol that can be connected to now; nil if the kernel did not answer in full.
    func list(_ transport: TransportProtocol) -> [ListedSocket]? {
        var sockets: [ListedSocket] = []
        switch source {
        case .diagnostics(let diagnostics):
            for family in AddressFamily.allCases {
                guard diagnostics.list(family, transport, into: &sockets) else { return nil }
            }
        case .files(let files):
            for file in transport == .tcp ? files[0...1] : files[2...3] where file.rawValue >= 0 {
                guard let text = Self.text(file.rawValue) else { return nil }
                sockets += ProcNet.parse(text, isTCP: transport == .tcp).map {
                    ListedSocket(port: $0.port, user: $0.user, inode: $0.inode)
                }
            }
        }
        return sockets
    }

    private static func text(_ number: CInt) -> String? {
        guard lseek(number, 0, SEEK_SET) == 0 else { return nil }
        let file = FileDescriptor(rawValue: number)
        guard let bytes = try? SmallFile.contents(of: file, named: "/proc/net", limit: .max) else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }
}
