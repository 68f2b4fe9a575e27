// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Which ports of a network namespace are listened on: asked of the kernel by sock_diag(7), or where that is refused
// read from files of /proc/net that were opened while there was a /proc.
//
// syscalls: setup(ports): close lseek read recvfrom sendto
// syscalls: running(ports): close lseek read recvfrom sendto

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
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

/// Asks one network namespace for its listening sockets, again and again.
struct ListeningSockets: ~Copyable {
    private enum Source: ~Copyable {
        case diagnostics(OwnedFileDescriptor)
        case files([FileDescriptor])
    }

    /// The files of both protocols and families, each pair IPv4 first.
    private static let paths = ["tcp", "tcp6", "udp", "udp6"].map { "/proc/thread-self/net/\($0)" }

    private static let diagnostics = NamespaceRequest.socket(
        domain: AF_NETLINK, type: CInt(SOCK_RAW.rawValue), ipProtocol: NETLINK_SOCK_DIAG)

    /// All that may be asked for to begin with, by one way or the other.
    static let requests = [diagnostics] + paths.map { NamespaceRequest.file($0) }

    private let source: Source
    private var sequence: UInt32 = 0
    private var buffer = [UInt8](repeating: 0, count: 32768)

    /// Opens what is needed in a namespace, with what makes descriptors there; nil if the kernel shows its sockets in neither way.
    init?(_ open: ([NamespaceRequest]) -> NamespaceAnswers) {
        if case .success(let descriptor)? = open([Self.diagnostics]).first {
            let socket = OwnedFileDescriptor(taking: descriptor)
            var sockets: [ListedSocket] = []
            if Self.dump(socket.rawValue, UInt8(AF_INET), .tcp, &sequence, &buffer, &sockets) {
                source = .diagnostics(socket)
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
    mutating func ports() -> ListeningPorts? {
        guard let tcp = list(.tcp), let udp = list(.udp) else { return nil }
        return ListeningPorts(tcp: PortSet(tcp.map(\.port)), udp: PortSet(udp.map(\.port)))
    }

    /// The sockets of a protocol that can be connected to now; nil if the kernel did not answer in full.
    mutating func list(_ transport: TransportProtocol) -> [ListedSocket]? {
        var sockets: [ListedSocket] = []
        switch source {
        case .diagnostics(let socket):
            for family in [AF_INET, AF_INET6] {
                guard Self.dump(socket.rawValue, UInt8(family), transport, &sequence, &buffer, &sockets) else {
                    return nil
                }
            }
        case .files(let files):
            for file in transport == .tcp ? files[0...1] : files[2...3] where file.rawValue >= 0 {
                guard let text = Self.text(file.rawValue) else { return nil }
                sockets += SocketDiagnostics.parseProcNet(text, transport: transport)
            }
        }
        return sockets
    }

    private static func dump(
        _ number: CInt, _ family: UInt8, _ transport: TransportProtocol, _ sequence: inout UInt32,
        _ buffer: inout [UInt8], _ sockets: inout [ListedSocket]
    ) -> Bool {
        sequence &+= 1
        let request = SocketDiagnostics.request(family: family, transport: transport, sequence: sequence)
        let sent = transferring { unsafe request.withUnsafeBytes { unsafe send(number, $0.baseAddress, $0.count, 0) } }
        guard sent == .bytes(request.count) else { return false }
        while true {
            // A dump is produced as it is read: there is nothing to wait for.
            let result = transferring {
                unsafe buffer.withUnsafeMutableBytes {
                    unsafe recv(number, $0.baseAddress, $0.count, CInt(MSG_DONTWAIT))
                }
            }
            guard case .bytes(let count) = result, count > 0 else { return false }
            let progress = SocketDiagnostics.parse(
                buffer.span.extracting(..<count), sequence: sequence, into: &sockets)
            switch progress {
            case .more: continue
            case .done: return true
            // A family or protocol that the kernel does not have has no sockets either.
            case .failed(let error): return error == .noSuchFileOrDirectory || error == .invalidArgument
            }
        }
    }

    private static func text(_ number: CInt) -> String? {
        guard lseek(number, 0, SEEK_SET) == 0 else { return nil }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 32768)
        while true {
            let result = transferring {
                unsafe chunk.withUnsafeMutableBytes { unsafe read(number, $0.baseAddress, $0.count) }
            }
            guard case .bytes(let count) = result else { return nil }
            if count == 0 { return String(decoding: bytes, as: UTF8.self) }
            bytes += chunk[..<count]
        }
    }
}
