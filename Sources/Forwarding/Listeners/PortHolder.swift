// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Who has a port that we are refused. Only before the file system is taken away, and only for processes that we may
// look into: those of the same user that allow it.
//
// syscalls: getdents64 readlink openat close

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import SystemPackage

/// The process that listens on a port of the host.
struct PortHolder: Equatable {
    /// Its process id and name, where they can be known.
    var process: (id: Int, name: String)?
    /// The user that the socket belongs to.
    var user: UInt32?

    static func == (a: PortHolder, b: PortHolder) -> Bool {
        a.process?.id == b.process?.id && a.user == b.user
    }

    /// Finds who listens on a port in the network namespace that `sockets` shows.
    init(of port: UInt16, _ transport: TransportProtocol, in sockets: inout ListeningSockets) {
        guard let socket = sockets.list(transport)?.first(where: { $0.port == port }) else { return }
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
        for name in entries(of: "/proc") {
            guard let id = Int(name) else { continue }
            for file in entries(of: "/proc/\(name)/fd") where self.link("/proc/\(name)/fd/\(file)") == link {
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

    private static func entries(of path: String) -> [String] {
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
