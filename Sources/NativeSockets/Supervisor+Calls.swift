// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): bind capget capset ioctl listen setsockopt

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// The reported calls other than connect(2).
extension Supervisor {
    /// The capabilities that calls on sockets of the command's namespace may need.
    static let networkCapabilities = UInt64(TAPAS_CAPABILITIES_NETWORK)
    /// What the supervisor always needs: the descriptors and the memory of the command's processes.
    static let ownCapabilities = UInt64(TAPAS_CAPABILITY_PTRACE)

    /// Makes a call with the caller's capabilities over the socket's namespace.
    ///
    /// Those of a process in a user namespace of its own do not count for a network namespace above it.
    private func withCapabilities<Result>(
        of caller: Caller, on socket: borrowing CallerSocket, _ body: () -> Result
    ) -> Result {
        let held = caller.status(proc).capabilities & Self.networkCapabilities
        guard held != 0, socket.origin == .elsewhere || caller.sharesUserNamespace(proc) else { return body() }
        _ = tapas_set_effective(Self.ownCapabilities | held)
        defer { _ = tapas_set_effective(Self.ownCapabilities) }
        return body()
    }

    /// bind(2).
    func bind(
        _ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        guard socket.isTCP else { return .continues }
        let address = try readAddress(call, of: caller)
        guard socket.origin != .host else {
            return .fails(.invalidArgument)
        }
        let number = socket.number
        return withCapabilities(of: caller, on: socket) {
            var storage = sockaddr_storage()
            unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyBytes(from: address.prefix($0.count)) }
            let result = unsafe withUnsafePointer(to: &storage) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    unsafe Glibc.bind(number, $0, socklen_t(address.count))
                }
            }
            return result == 0 ? .returns(0) : .fails(currentErrno)
        }
    }

    /// listen(2).
    func listen(_ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket) -> Answer {
        guard socket.origin != .host else {
            return .fails(.invalidArgument)
        }
        // The kernel notes who listens on a UNIX socket (SO_PEERCRED), so it should be the caller that does.
        if !socket.isTCP, caller.status(proc).isAlone { return .continues }
        let backlog = CInt(truncatingIfNeeded: call.arguments.1)
        return Glibc.listen(socket.number, backlog) == 0 ? .returns(0) : .fails(currentErrno)
    }

    /// getsockname(2): the namespace's address, in place of the host's.
    func name(
        _ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        guard socket.origin == .host, socket.isTCP, var local = HostSocket.localEndpoint(socket.number) else {
            return .continues
        }
        let address = IPAddress(unmapping: local.address)
        if !address.isUnspecified { local.address = settings.shownAddress(of: address).asIPv6 }
        let lengthAt = call.arguments.2
        let room = try caller.read(lengthAt, 4)
        let capacity = Int32(littleEndian: room.reversed().reduce(0) { $0 << 8 | Int32($1) })
        guard capacity >= 0 else { return .fails(.invalidArgument) }
        let bytes = local.bytes(domain: socket.domain)
        guard tapas_notification_waits(listener, call.id) != 0 else { return .nothing }
        try caller.write(Array(bytes.prefix(Int(capacity))), to: call.arguments.1)
        let length = UInt32(bytes.count)
        try caller.write((0..<4).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) }, to: lengthAt)
        return .returns(0)
    }

    /// setsockopt(2) of an option that could lead a socket elsewhere.
    func setOption(
        _ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        let level = CInt(truncatingIfNeeded: call.arguments.1)
        let name = CInt(truncatingIfNeeded: call.arguments.2)
        let length = Int32(truncatingIfNeeded: call.arguments.4)
        // The longest of these options are headers of extension.
        guard length >= 0, length <= 4096 else { return .fails(.invalidArgument) }
        let value = try caller.read(call.arguments.3, Int(length))
        guard tapas_notification_waits(listener, call.id) != 0 else { return .nothing }
        if socket.origin == .host, !Self.isHarmless(level, name, value) {
            return .fails(.notPermitted)
        }
        let number = socket.number
        return withCapabilities(of: caller, on: socket) {
            unsafe setsockopt(number, level, name, value, socklen_t(value.count)) == 0
                ? .returns(0) : .fails(currentErrno)
        }
    }

    /// Whether an option may be set on a switched socket: TLS in the kernel keeps the connection what it is.
    private static func isHarmless(_ level: CInt, _ name: CInt, _ value: [UInt8]) -> Bool {
        level == CInt(IPPROTO_TCP) && name == 31 && value.prefix { $0 != 0 } == Array("tls".utf8)[...]
    }

    // MARK: ioctl(2)

    /// The requests that take a `struct ifreq` without pointers: SIOCGIFNAME to SIOCSIFTXQLEN (linux/sockios.h).
    private static let interfaceRequests: Set<UInt32> = [
        0x8910, 0x8913, 0x8914, 0x8915, 0x8916, 0x8917, 0x8918, 0x8919, 0x891A, 0x891B, 0x891C, 0x891D, 0x891E, 0x8921,
        0x8922, 0x8923, 0x8924, 0x8927, 0x8933, 0x8942, 0x8943, 0x8970,
    ]
    /// sizeof(struct ifreq).
    private static let interfaceRequestSize = 40
    /// SIOCGIFCONF.
    private static let interfaceList: UInt32 = 0x8912

    /// ioctl(2) of the family of interfaces.
    func control(
        _ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        let request = UInt32(truncatingIfNeeded: call.arguments.1)
        guard socket.origin != .host else {
            return .fails(.notPermitted)
        }
        if caller.status(proc).isAlone { return .continues }
        let place = call.arguments.2
        let number = socket.number
        if Self.interfaceRequests.contains(request) {
            var structure = try caller.read(place, Self.interfaceRequestSize)
            guard tapas_notification_waits(listener, call.id) != 0 else { return .nothing }
            let answer: Answer = withCapabilities(of: caller, on: socket) {
                unsafe tapas_ioctl_structure(number, UInt(request), &structure) >= 0
                    ? .returns(0) : .fails(currentErrno)
            }
            guard answer == .returns(0) else { return answer }
            try caller.write(structure, to: place)
            return answer
        }
        guard request == Self.interfaceList else { return .fails(.notPermitted) }
        return try listInterfaces(call, place, of: caller, on: socket)
    }

    /// SIOCGIFCONF, with a list of our own in between.
    private func listInterfaces(
        _ call: tapas_notification, _ place: UInt64, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        // struct ifconf: an int, and a pointer.
        let given = try caller.read(place, 16)
        guard tapas_notification_waits(listener, call.id) != 0 else { return .nothing }
        let length = given.prefix(4).reversed().reduce(Int32(0)) { $0 << 8 | Int32($1) }
        let list = given.suffix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length >= 0 else { return .fails(.invalidArgument) }
        var entries = [UInt8](repeating: 0, count: min(Int(length), 1 << 16))
        var size = CInt(entries.count)
        let number = socket.number
        let result =
            list == 0
            ? unsafe tapas_interface_list(number, nil, &size)
            : unsafe tapas_interface_list(number, &entries, &size)
        guard result >= 0 else { return .fails(currentErrno) }
        if list != 0 { try caller.write(Array(entries.prefix(max(Int(size), 0))), to: list) }
        try caller.write((0..<4).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }, to: place)
        return .returns(0)
    }
}

extension Endpoint {
    /// The address as the kernel writes it for a socket of a domain.
    fileprivate func bytes(domain: CInt) -> [UInt8] {
        let portBytes = [UInt8(port >> 8), UInt8(truncatingIfNeeded: port)]
        func number(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
        }
        if domain == AF_INET {
            return [UInt8(AF_INET), 0] + portBytes + number(address.low, 4) + [UInt8](repeating: 0, count: 8)
        }
        return [UInt8(AF_INET6), 0] + portBytes + number(0, 4) + number(address.high, 8) + number(address.low, 8)
            + number(0, 4)
    }
}
