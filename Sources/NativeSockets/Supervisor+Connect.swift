// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): bind close connect fcntl getsockopt ioctl

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// A connect(2) of a blocking socket that has not been answered.
struct WaitingCall {
    /// Our descriptor of the socket that connects, until the answer.
    var socket: CInt
    /// The address, for the second connect(2), which returns the result.
    var address: [UInt8]
    /// The caller's descriptor, and the socket that was replaced there, which comes back if the connection fails.
    var replaced: (descriptor: CInt, original: CInt, closesOnExec: Bool)?
    /// When connect(2) stops waiting (SO_SNDTIMEO).
    var deadline: MonotonicTime?
    var watch: EventLoop.SourceID
}

extension Supervisor {
    /// The longest address of any family (sizeof(struct sockaddr_storage)).
    private static let longestAddress = 128

    /// Reads an address argument of a call once, with the errors of the kernel.
    func readAddress(_ call: tapas_notification, of caller: Caller) throws(Errno) -> [UInt8] {
        let length = Int32(truncatingIfNeeded: call.arguments.2)
        guard length >= 0, length <= Self.longestAddress else { throw .invalidArgument }
        let bytes = try caller.read(call.arguments.1, Int(length))
        // Otherwise the memory may be that of another thread with the same number.
        guard tapas_notification_waits(listener, call.id) != 0 else { throw .noSuchProcess }
        return bytes
    }

    /// connect(2).
    func connect(
        _ call: tapas_notification, of caller: Caller, on socket: borrowing CallerSocket
    ) throws(Errno) -> Answer {
        guard socket.isTCP else { return .continues }
        let address = try readAddress(call, of: caller)
        let target = Self.target(address, domain: socket.domain)
        let isNative = target.map { settings.verdict(to: $0.address, port: $0.port) == .native } ?? false
        guard socket.origin != .host else { return connectAgain(call, address, isNative: isNative, on: socket) }
        let number = CInt(truncatingIfNeeded: call.arguments.0)
        if isNative, let target, socket.origin == .namespace, leavesByEngine(target.address),
            CarriedOptions.allowReplacement(of: socket),
            !caller.hasRegistered(proc, number, generation: epollGeneration),
            let answer = replace(call, number, of: caller, socket, target, address)
        {
            return answer
        }
        return makeConnect(call, address, on: socket)
    }

    /// The destination of an address of the socket's own family; nil for any other address.
    private static func target(_ address: [UInt8], domain: CInt) -> Endpoint? {
        let size = domain == AF_INET ? MemoryLayout<sockaddr_in>.size : MemoryLayout<sockaddr_in6>.size
        guard address.count >= size else { return nil }
        var storage = sockaddr_storage()
        unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyBytes(from: address.prefix($0.count)) }
        guard CInt(storage.ss_family) == domain else { return nil }
        return unsafe Endpoint(&storage)
    }

    private static func family(_ address: [UInt8]) -> CInt {
        guard address.count >= 2 else { return -1 }
        return CInt(UInt16(littleEndian: UInt16(address[0]) | UInt16(address[1]) << 8))
    }

    // MARK: A socket of the host

    /// Connects a socket of the host and puts it in place of the caller's.
    ///
    /// - Returns: The answer; nil if the namespace's own socket must connect.
    private func replace(
        _ call: tapas_notification, _ number: CInt, of caller: Caller, _ socket: borrowing CallerSocket,
        _ target: Endpoint, _ address: [UInt8]
    ) -> Answer? {
        let family = settings.families[target.family]
        let opened: CInt
        do throws(Errno) {
            opened = try HostSocket.open(domain: socket.domain, type: HostSocket.stream, ipProtocol: CInt(IPPROTO_TCP))
        } catch {
            return nil
        }
        let host = OwnedFileDescriptor(taking: opened)
        guard CarriedOptions.copy(from: socket, to: opened) else { return nil }
        if let device = family.device {
            do throws(Errno) { try HostSocket.bind(opened, toDevice: device) } catch { return nil }
        }
        if let source = family.source {
            HostSocket.setIfPossible(opened, CInt(IPPROTO_IP), CInt(TAPAS_IP_BIND_ADDRESS_NO_PORT), 1)
            // Without the address, the kernel chooses one, as for connections by the tap.
            do throws(Errno) {
                try Endpoint(address: source.asIPv6, port: 0).bind(opened, domain: socket.domain)
            } catch {
                guard error == .addressNotAvailable else { return nil }
            }
        }
        let waits = socket.waits
        let error = Self.connect(opened, address)
        if let error, error != .nowInProgress {
            // No port is free, or the host's policy denies it: the tap has other means.
            return error == .addressNotAvailable || error == .notPermitted ? nil : .fails(error)
        }
        if waits { _ = tapas_set_nonblocking(opened, 0) }
        let closesOnExec = caller.closesOnExec(proc, number)
        guard tapas_notification_replace(listener, call.id, opened, number, closesOnExec ? 1 : 0) == 0 else {
            return currentErrno == .noSuchFileOrDirectory ? .nothing : nil
        }
        switched.add(
            SwitchedSocket(
                cookie: CallerSocket.cookie(of: opened), remote: target,
                local: HostSocket.localEndpoint(opened) ?? target, opened: .now))
        forgetClosedSockets()
        guard error != nil else { return .returns(0) }
        guard waits else {
            // A caller that was interrupted at this moment repeats the call, and expects the same answer.
            if !give(.fails(.nowInProgress), to: call.id) {
                switched.beginAgain(CallerSocket.cookie(of: opened))
            }
            return .nothing
        }
        // Without a descriptor for it the caller is told that the connection is under way, which is true.
        guard let original = try? socket.owned.duplicate() else { return .fails(.nowInProgress) }
        return wait(
            call, for: host, address, replaced: (number, original.release().rawValue, closesOnExec),
            deadline: Self.deadline(socket))
    }

    /// connect(2) on a socket of the host that the caller has.
    private func connectAgain(
        _ call: tapas_notification, _ address: [UInt8], isNative: Bool, on socket: borrowing CallerSocket
    ) -> Answer {
        let disconnects = Self.family(address) == AF_UNSPEC
        if disconnects || isNative && HostSocket.get(socket.number, CInt(IPPROTO_TCP), 30) ?? 0 == 0 {
            let answer = makeConnect(call, address, on: socket)
            if answer == .fails(.alreadyInProcess), switched.takeBegun(socket.cookie) {
                return .fails(.nowInProgress)
            }
            return answer
        }
        if HostSocket.peerEndpoint(socket.number) != nil { return .fails(.socketIsConnected) }
        // TCP_SYN_SENT
        return .fails(socket.state == 2 ? .alreadyInProcess : .networkUnreachable)
    }

    // MARK: The caller's own socket

    /// Calls connect(2) on the caller's socket, without waiting, and answers with the result.
    private func makeConnect(
        _ call: tapas_notification, _ address: [UInt8], on socket: borrowing CallerSocket
    ) -> Answer {
        let waits = socket.waits
        // The flag is one of the file, which the caller shares; it is set for these few instructions.
        if waits { _ = tapas_set_nonblocking(socket.number, 1) }
        let error = Self.connect(socket.number, address)
        if waits { _ = tapas_set_nonblocking(socket.number, 0) }
        guard let error else { return .returns(0) }
        guard waits, error == .nowInProgress || error == .alreadyInProcess else { return .fails(error) }
        guard let own = try? socket.owned.duplicate() else { return .fails(error) }
        return wait(call, for: own, address, replaced: nil, deadline: Self.deadline(socket))
    }

    /// connect(2); nil if it succeeds.
    private static func connect(_ number: CInt, _ address: [UInt8]) -> Errno? {
        var storage = sockaddr_storage()
        unsafe withUnsafeMutableBytes(of: &storage) { unsafe $0.copyBytes(from: address.prefix($0.count)) }
        let length = socklen_t(address.count)
        let result = unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(number, $0, length)
            }
        }
        return result == 0 ? nil : currentErrno
    }

    // MARK: Calls that wait

    private static func deadline(_ socket: borrowing CallerSocket) -> MonotonicTime? {
        var time = timeval()
        var length = socklen_t(MemoryLayout<timeval>.size)
        guard unsafe getsockopt(socket.number, SOL_SOCKET, SO_SNDTIMEO, &time, &length) == 0 else { return nil }
        // The kernel takes any number of seconds; more than a day is as good as a day.
        let milliseconds = min(Int64(time.tv_sec), 86_400) * 1000 + Int64(time.tv_usec) / 1000
        return milliseconds > 0 ? MonotonicTime.now.advanced(milliseconds: milliseconds) : nil
    }

    private func wait(
        _ call: tapas_notification, for socket: consuming OwnedFileDescriptor, _ address: [UInt8],
        replaced: (descriptor: CInt, original: CInt, closesOnExec: Bool)?, deadline: MonotonicTime?
    ) -> Answer {
        let id = call.id
        let number = socket.release().rawValue
        do throws(SystemCallError) {
            let watch = try loop.watch(FileDescriptor(rawValue: number), for: .writable) { [unowned self] _ in
                connectionEnded(id)
            }
            waiting[id] = WaitingCall(
                socket: number, address: address, replaced: replaced, deadline: deadline, watch: watch)
            checkWaitingCallsLater()
            return .nothing
        } catch {
            close(number)
            if let replaced { close(replaced.original) }
            return .fails(.nowInProgress)
        }
    }

    private func connectionEnded(_ id: UInt64) {
        guard let call = waiting[id] else { return }
        _ = tapas_set_nonblocking(call.socket, 1)
        let error = Self.connect(call.socket, call.address)
        _ = tapas_set_nonblocking(call.socket, 0)
        if error == .alreadyInProcess || error == .nowInProgress { return }
        if error != nil, error != .socketIsConnected, let replaced = call.replaced {
            // The caller may use its own socket again, as after any failed connect(2).
            _ = tapas_notification_replace(
                listener, id, replaced.original, replaced.descriptor, replaced.closesOnExec ? 1 : 0)
            switched.remove(CallerSocket.cookie(of: call.socket))
        }
        finish(id, error == nil || error == .socketIsConnected ? .returns(0) : .fails(error ?? .ioError))
    }

    private func finish(_ id: UInt64, _ answer: Answer) {
        guard let call = waiting.removeValue(forKey: id) else { return }
        loop.unwatch(call.watch)
        give(answer, to: id)
        close(call.socket)
        if let replaced = call.replaced { close(replaced.original) }
    }

    /// Gives up calls whose caller was interrupted or has ended, and those whose time is over.
    private func checkWaitingCallsLater() {
        guard !willCheck, !waiting.isEmpty else { return }
        willCheck = true
        loop.schedule(at: MonotonicTime.now.advanced(milliseconds: 200)) { [unowned self] now in
            willCheck = false
            for (id, call) in waiting {
                if tapas_notification_waits(listener, id) == 0 {
                    finish(id, .nothing)
                } else if let deadline = call.deadline, deadline <= now {
                    finish(id, .fails(.nowInProgress))
                }
            }
            checkWaitingCallsLater()
        }
    }
}

extension Endpoint {
    /// Binds a socket of a given domain; a socket of IPv6 takes an IPv4 address in mapped form only.
    fileprivate func bind(_ number: CInt, domain: CInt) throws(Errno) {
        guard domain == AF_INET6, address.isIPv4Mapped else { return try bind(number) }
        var storage = sockaddr_in6()
        storage.sin6_family = sa_family_t(AF_INET6)
        unsafe withUnsafeMutableBytes(of: &storage.sin6_addr) { bytes in
            unsafe bytes.storeBytes(of: address.high.bigEndian, toByteOffset: 0, as: UInt64.self)
            unsafe bytes.storeBytes(of: address.low.bigEndian, toByteOffset: 8, as: UInt64.self)
        }
        let size = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = unsafe withUnsafePointer(to: &storage) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe Glibc.bind(number, $0, size) }
        }
        if result != 0 { throw currentErrno }
    }
}
