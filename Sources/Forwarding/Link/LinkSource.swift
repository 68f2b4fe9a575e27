// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: setup(main): close fcntl fstat getpeername getsockopt ioctl newfstatat

internal import CLinux
internal import Glibc
public import LinuxSystem
internal import NetworkTypes
public import SystemPackage

/// The device or socket of the guest, from which a data path makes its link.
public enum LinkSource: ~Copyable, Sendable {
    /// A tap device.
    case tap(TapDevice)
    /// A tun device, whose packets have no Ethernet header.
    case tun(TunDevice)
    /// A listening stream socket, to which virtual machines connect one after the other.
    case streamListener(Listener)
    /// A stream socket with a virtual machine at the other end.
    case streamClient(OwnedFileDescriptor)
    /// As ``streamListener(_:)``, and the virtual machines speak vhost-user.
    case vhostUserListener(Listener)
    /// As ``streamClient(_:)``, and the virtual machine speaks vhost-user.
    case vhostUserClient(OwnedFileDescriptor)

    /// A listening socket.
    public struct Listener: ~Copyable, Sendable {
        /// The socket.
        let socket: OwnedFileDescriptor
        /// Whether the link ends with its first client.
        let isForOneClient: Bool

        /// Takes a listening socket, non-blocking.
        public init(_ socket: consuming OwnedFileDescriptor, isForOneClient: Bool) {
            self.socket = socket
            self.isForOneClient = isForOneClient
        }

        /// Makes the link.
        consuming func link() -> StreamLink {
            let isForOneClient = isForOneClient
            return StreamLink(listener: socket, isForOneClient: isForOneClient)
        }

        /// Makes the link for vhost-user.
        consuming func vhostUserLink() -> VhostUserLink {
            let isForOneClient = isForOneClient
            return VhostUserLink(listener: socket, isForOneClient: isForOneClient)
        }
    }

    /// The tap, lent; nil for another link.
    public var tap: FileDescriptor? {
        switch self {
        case .tap(let device): device.descriptor
        default: nil
        }
    }

    /// The descriptor, lent.
    public var descriptor: FileDescriptor {
        switch self {
        case .tap(let device): device.descriptor
        case .tun(let device): device.descriptor
        case .streamListener(let listener): listener.socket.descriptor
        case .streamClient(let socket): socket.descriptor
        case .vhostUserListener(let listener): listener.socket.descriptor
        case .vhostUserClient(let socket): socket.descriptor
        }
    }

    /// Makes the link.
    consuming func link() -> GuestLink {
        switch consume self {
        case .tap(let device): .tap(device)
        case .tun(let device): .tun(device)
        case .streamListener(let listener): .stream(listener.link())
        case .streamClient(let socket): .stream(StreamLink(client: socket))
        case .vhostUserListener(let listener): .vhostUser(listener.vhostUserLink())
        case .vhostUserClient(let socket): .vhostUser(VhostUserLink(client: socket))
        }
    }
}

extension LinkSource {
    /// The reason why a descriptor of `--fd` cannot carry frames.
    public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// One line: what the descriptor is, and a remedy.
        public var description: String

        init(_ description: String) {
            self.description = description
        }
    }

    /// The same socket, for the vhost-user protocol.
    ///
    /// - Throws: If it is a device.
    public consuming func speakingVhostUser() throws(Refusal) -> LinkSource {
        switch consume self {
        case .streamListener(let listener): return .vhostUserListener(listener)
        case .streamClient(let socket): return .vhostUserClient(socket)
        case .vhostUserListener(let listener): return .vhostUserListener(listener)
        case .vhostUserClient(let socket): return .vhostUserClient(socket)
        default: throw Refusal("a device; for --vhost-user, give a connected stream socket")
        }
    }

    /// The kind of a descriptor of `--fd`.
    private enum Kind {
        case socket
        case device(name: String, flags: CInt)
    }

    /// Takes a descriptor that the program was started with: a connected stream socket, or a tap or tun.
    ///
    /// - Parameter number: its number. Standard input is duplicated, because its number gets another use.
    /// - Returns: The source of a link.
    /// - Throws: If it is not open, or is none of these.
    public static func handedOver(_ number: Int32) throws(Refusal) -> LinkSource {
        let kind = try kind(of: number)
        do throws(SystemCallError) {
            var number = number
            if number <= 2 {
                number = try retrying("fcntl", "F_DUPFD_CLOEXEC") { tapas_dup_cloexec(number, 3) }
            } else {
                _ = fcntl(number, F_SETFD, FD_CLOEXEC)
            }
            let descriptor = OwnedFileDescriptor(taking: number)
            switch kind {
            case .socket:
                try retrying("fcntl", "O_NONBLOCK") { tapas_set_nonblocking(number, 1) }
                return .streamClient(descriptor)
            case .device(let name, let flags):
                let hasHeader = flags & CInt(IFF_VNET_HDR) != 0
                if flags & CInt(IFF_TAP) != 0 {
                    return .tap(try TapDevice(handedOver: descriptor, name: name, hasHeader: hasHeader))
                }
                return .tun(try TunDevice(handedOver: descriptor, name: name, hasHeader: hasHeader))
            }
        } catch {
            throw Refusal("\(error)")
        }
    }

    private static func kind(of number: CInt) throws(Refusal) -> Kind {
        let remedy = "give a connected stream socket, a tap, or a tun"
        var status = stat()
        guard unsafe fstat(number, &status) == 0 else {
            throw Refusal("the descriptor is not open; redirect it, as in \(number)<>FILE, or let it be inherited")
        }
        switch status.st_mode & S_IFMT {
        case S_IFSOCK:
            guard option(SO_TYPE, of: number) == CInt(SOCK_STREAM.rawValue) else {
                throw Refusal("a socket that is no stream; \(remedy)")
            }
            guard option(SO_ACCEPTCONN, of: number) == 0 else {
                throw Refusal("a socket that listens; give a connected one, or the path with --socket")
            }
            var address = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let isConnected = unsafe withUnsafeMutablePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe getpeername(number, $0, &length) == 0
                }
            }
            guard isConnected else { throw Refusal("a socket that is not connected; \(remedy)") }
            return .socket
        case S_IFCHR: return try device(number, remedy)
        case S_IFDIR: throw Refusal("a directory; \(remedy)")
        case S_IFREG: throw Refusal("a regular file; \(remedy)")
        case S_IFIFO: throw Refusal("a pipe; \(remedy)")
        default: throw Refusal("neither a socket nor a device; \(remedy)")
        }
    }

    private static func device(_ number: CInt, _ remedy: String) throws(Refusal) -> Kind {
        var name: [CChar] = .init(repeating: 0, count: 16)
        var flags: CShort = 0
        guard unsafe tapas_tun_get_interface(number, &name, &flags) == 0 else {
            throw Refusal(
                currentErrno.rawValue == EBADFD
                    ? "a tun device without an interface; make it one with TUNSETIFF first"
                    : "a device that is neither a tap nor a tun; \(remedy)")
        }
        let text = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        guard CInt(flags) & CInt(IFF_NO_PI) != 0 else {
            throw Refusal("'\(text)' gives packet information before each frame; open it with IFF_NO_PI")
        }
        return .device(name: text, flags: CInt(flags))
    }

    private static func option(_ name: CInt, of number: CInt) -> CInt? {
        var value: CInt = 0
        var length = socklen_t(MemoryLayout<CInt>.size)
        return unsafe getsockopt(number, SOL_SOCKET, name, &value, &length) == 0 ? value : nil
    }
}
