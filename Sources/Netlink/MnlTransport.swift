// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import CMnl
internal import Glibc
package import LinuxSystem
package import SystemPackage

// syscalls: setup(main, namespace): bind close getsockname poll recvmsg sendto setsockopt socket
// syscalls: running(control, namespace): close poll recvmsg sendto
// syscalls: running(control): bind getsockname setsockopt socket

/// An rtnetlink socket of libmnl.
///
/// libmnl opens, binds, configures, sends and closes. Receiving is done here, because `mnl_socket_recvfrom` does not
/// report the sender, and a hostile root in the target namespace can send to this socket.
@safe
package final class MnlTransport: NetlinkTransport {
    /// libmnl's `struct mnl_socket`; owned, valid until `deinit`.
    private let socket: OpaquePointer
    package let portID: UInt32
    package let descriptor: FileDescriptor?

    /// Opens a socket in the calling thread's network namespace and joins groups.
    ///
    /// - Throws: The error of socket(2), bind(2) or setsockopt(2).
    package init(groups: [NetlinkGroup]) throws(SystemCallError) {
        let opened = unsafe mnl_socket_open2(NETLINK_ROUTE, Int32(SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue))
        guard let opened = unsafe opened else {
            throw SystemCallError("socket", "NETLINK_ROUTE", currentErrno)
        }
        // Joins the groups before the socket is used, so that no notification is missed after that.
        do throws(SystemCallError) {
            if unsafe mnl_socket_bind(opened, 0, pid_t(MNL_SOCKET_AUTOPID)) < 0 {
                throw SystemCallError("bind", "NETLINK_ROUTE", currentErrno)
            }
            try unsafe Self.setRequiredOption(opened, NETLINK_EXT_ACK, "NETLINK_EXT_ACK")
            // Kernels before 4.20 lack strict checking; their dumps are filtered again while they are read.
            try unsafe Self.setOption(opened, NETLINK_GET_STRICT_CHK, 1, "NETLINK_GET_STRICT_CHK", isRequired: false)
            try unsafe Self.setOption(opened, NETLINK_CAP_ACK, 1, "NETLINK_CAP_ACK", isRequired: true)
            for group in groups {
                // A kernel without nexthop objects lacks that group, and one without IPv6 lacks the neighbour options.
                try unsafe Self.setOption(
                    opened, NETLINK_ADD_MEMBERSHIP, CInt(truncatingIfNeeded: group.rawValue),
                    "NETLINK_ADD_MEMBERSHIP", isRequired: group != .nextHop && group != .neighbourOptions)
            }
        } catch {
            unsafe mnl_socket_close(opened)
            throw error
        }
        unsafe socket = opened
        portID = unsafe mnl_socket_get_portid(opened)
        descriptor = FileDescriptor(rawValue: unsafe mnl_socket_get_fd(opened))
    }

    deinit {
        unsafe mnl_socket_close(socket)
    }

    private static func setRequiredOption(
        _ socket: OpaquePointer, _ option: CInt, _ name: String
    ) throws(SystemCallError) {
        try unsafe setOption(socket, option, 1, name, isRequired: true)
    }

    private static func setOption(
        _ socket: OpaquePointer, _ option: CInt, _ value: CInt, _ name: String, isRequired: Bool
    ) throws(SystemCallError) {
        var value = value
        let result = unsafe mnl_socket_setsockopt(socket, option, &value, socklen_t(MemoryLayout<CInt>.size))
        if result < 0, isRequired { throw SystemCallError("setsockopt", name, currentErrno) }
    }

    package func send(_ datagram: [UInt8]) throws(SystemCallError) {
        try retrying("sendto", "NETLINK_ROUTE") {
            unsafe datagram.withUnsafeBytes { unsafe mnl_socket_sendto(socket, $0.baseAddress, $0.count) }
        }
    }

    package func receive(into buffer: inout [UInt8]) -> NetlinkReception {
        var sender: UInt32 = .max
        let number = descriptor?.rawValue ?? -1
        let result = transferring {
            unsafe buffer.withUnsafeMutableBytes {
                unsafe tapas_netlink_receive(number, $0.baseAddress, $0.count, &sender)
            }
        }
        switch result {
        case .bytes(let count): return .datagram(byteCount: count, sender: sender)
        case .wouldBlock: return .empty
        case .failed(.noBufferSpace): return .overflow
        case .failed(let error): return .failed(error)
        }
    }

    package func wait(until deadline: MonotonicTime) throws(SystemCallError) -> Bool {
        while true {
            let remaining = deadline.milliseconds(since: .now)
            guard remaining >= 0 else { return false }
            var entry = pollfd(fd: descriptor?.rawValue ?? -1, events: Int16(POLLIN), revents: 0)
            let result = unsafe poll(&entry, 1, CInt(clamping: remaining + 1))
            if result > 0 { return true }
            if result == 0 { return false }
            let error = currentErrno
            if error != .interrupted { throw SystemCallError("poll", "NETLINK_ROUTE", error) }
        }
    }
}
