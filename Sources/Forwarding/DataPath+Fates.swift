// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What a change of the host does to flows that exist.
//
// Sockets never tell that their address is gone, so flows are found by it. TCP is reset towards the namespace, whose
// programs then connect anew. A datagram flow keeps its addresses on the namespace's side and gets a fresh socket on the
// host's: who sends on goes on. So does a connection under way, of which the namespace knows nothing yet. Flows whose address stays are bound to its link if the default route has moved away from it.
//
// syscalls: socket connect close setsockopt getsockname epoll_ctl

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// Ends or moves the flows whose host address is gone.
    ///
    /// - Returns: How many there were.
    mutating func leave(_ addresses: Set<IPv6Address>) -> Int {
        flushGathered()
        var count = 0
        for index in 0..<table.end where table[index].state != .free && addresses.contains(table[index].local) {
            count += 1
            if table[index].key.transport == .tcp {
                if table[index].state != .connecting || !renewSocket(index) { resetBothSides(index) }
            } else if table[index].flags.contains(.inbound) || !renewSocket(index) {
                closeFlow(index)
            }
        }
        return count
    }

    /// Gives a datagram flow, or a connection under way, a fresh socket; false if there is none to be had now.
    private mutating func renewSocket(_ index: Int) -> Bool {
        let key = table[index].key
        guard
            case .host(let target, let source, let device) =
                translator.outbound(to: key.remoteAddress, port: key.remotePort, transport: key.transport)
        else { return false }
        let type = key.transport == .tcp ? HostSocket.stream : HostSocket.datagram
        var ipProtocol: CInt = 0
        if key.transport != .tcp && key.transport != .udp {
            ipProtocol = key.isIPv4 ? CInt(IPPROTO_ICMP) : CInt(IPPROTO_ICMPV6)
        }
        // The old socket first: the new one may want its port.
        HostSocket.close(table[index].socket)
        table[index].socket = -1
        let start = HostSocket.connect(
            to: target, type: type, ipProtocol: ipProtocol, source: source,
            sourcePort: key.transport == .udp ? key.guestPort : 0, device: device)
        guard case .socket(let number) = start, watch(index, socket: number) else { return false }
        table[index].flags.remove(.pinned)
        // What a fresh socket has; the next packet sets it if it differs.
        table[index].ttl = 64
        if let local = HostSocket.localEndpoint(number) { table[index].local = local.address }
        return true
    }

    /// Binds the sockets of flows to the link that their address is on, once for each.
    mutating func pinFlows(_ devices: [IPv6Address: String]) {
        for index in 0..<table.end where table[index].state != .free && !table[index].flags.contains(.pinned) {
            guard table[index].socket >= 0, let device = devices[table[index].local] else { continue }
            table[index].flags.insert(.pinned)
            HostSocket.bind(table[index].socket, toDevice: device)
        }
    }

    /// Resets all flows for which `condition` holds.
    mutating func resetFlows(where condition: (Flow) -> Bool) -> Int {
        var count = 0
        flushGathered()
        for index in 0..<table.end where table[index].state != .free && condition(table[index]) {
            if table[index].key.transport == .tcp { resetBothSides(index) } else { closeFlow(index) }
            count += 1
        }
        return count
    }
}
