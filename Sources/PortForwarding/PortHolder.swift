// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Who has a port that we are refused. Only before the file system is taken away, and only for processes that we may
// look into: those of the same user that allow it, and none once we are in a user namespace of our own. So those that
// may be in the way are looked for at the very start.
//
// syscalls: setup(main): close fstat getdents64 geteuid newfstatat openat read readlink

internal import Glibc
internal import LinuxSystem
public import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// Who listens on ports of the host that rules ask for by number.
public struct PortHolders: Sendable {
    private struct Place: Hashable {
        var transport: TransportProtocol
        var port: UInt16
    }

    private var holders: [Place: PortHolder] = [:]

    /// Makes a list without anybody.
    public init() {}

    /// Finds them, in the calling thread's network namespace.
    ///
    /// - Parameter rules: the rules, of which explicit inbound ones are looked at.
    public init(of rules: [PortForward]) {
        let wanted = rules.filter { $0.direction == .inbound && $0.policy == .explicit }
        guard !wanted.isEmpty, var sockets = ListeningSockets({ $0.map { $0.open() } }) else { return }
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
    /// Its process id and name, where they can be known.
    var process: (id: Int, name: String)?
    /// The user that the socket belongs to.
    var user: UInt32?

    /// Finds who has a socket.
    init(of socket: ListedSocket) {
        user = socket.user
        process = Self.process(holding: "socket:[\(socket.inode)]")
    }

    /// Whether it may be an instance of this program that is about to end: worth a moment's patience.
    var mayBeSibling: Bool {
        if let process { return process.name == Self.name(of: "self") }
        return user == nil || user == geteuid()
    }

    /// `nginx, process 1234`; nil if unknown.
    var description: String? {
        process.map { "\($0.name), process \($0.id)" }
    }

    private static func process(holding link: String) -> (id: Int, name: String)? {
        for name in rules(of: "/proc") {
            guard let id = Int(name) else { continue }
            for file in rules(of: "/proc/\(name)/fd") where self.link("/proc/\(name)/fd/\(file)") == link {
                return (id, self.name(of: name) ?? "?")
            }
        }
        return nil
    }

    private static func name(of process: String) -> String? {
        guard let file = try? OwnedFileDescriptor.open("/proc/\(process)/comm", .readOnly) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 64)
        let number = file.rawValue
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(number, $0.baseAddress, $0.count) }
        return count > 1 ? String(decoding: bytes[..<(count - 1)], as: UTF8.self) : nil
    }

    private static func link(_ path: String) -> String? {
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = unsafe bytes.withUnsafeMutableBytes { buffer in
            guard let start = buffer.baseAddress else { return 0 }
            return unsafe readlink(path, start.assumingMemoryBound(to: CChar.self), buffer.count)
        }
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }

    private static func rules(of path: String) -> [String] {
        guard let folder = unsafe opendir(path) else { return [] }
        defer { unsafe closedir(folder) }
        var names: [String] = []
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            names.append(name)
        }
        return names
    }
}
