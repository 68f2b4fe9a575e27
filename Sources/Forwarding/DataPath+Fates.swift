// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What a change of the host does to flows that exist.
//
// Sockets never tell that their address is gone, so flows are found by it. TCP is reset towards the namespace, whose
// programs then connect anew. A datagram flow keeps its addresses on the namespace's side and gets a fresh socket on the
// host's: who sends on goes on. So does a connection under way, of which the namespace knows nothing yet. Flows whose
// address stays are bound to its link if the default route has moved away from it.
//
// Whether the host still has an address is decided by what holds, not by what has changed: an address may come, be given
// to a flow and go again between two snapshots. What the snapshot does not show is asked of the kernel, by bind(2).
//
// What keeps an address of the namespace that is not planned any more is an established connection that can still carry
// data, and nothing else (`Flow.canCarryData`). By protocol and state:
//
//   UDP, echo, queries for the host's resolvers    keep nothing; they end when the address goes
//   connecting, synReceived, synSent               keep nothing; reset when the address goes
//   established                                    keeps it as long as the host's side is alive
//   established, one side has ended                keeps it as long as something passes every two seconds
//   established, both sides have ended             keeps nothing
//
// syscalls: running(data-path): close socket

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// How long a connection on an address that is to go may be silent before it is probed, in nanoseconds.
    private static let probeAfter: Int64 = 1_000_000_000

    /// Ends or moves the flows whose host address is gone.
    ///
    /// - Parameters:
    ///   - gone: Addresses that are known to be gone.
    ///   - present: Addresses that the host has; nil if only `gone` is known.
    /// - Returns: How many there were.
    mutating func leave(_ gone: Set<IPv6Address>, present: Set<IPv6Address>? = nil) -> Int {
        flushGathered()
        var count = 0
        var answers: [IPv6Address: Bool] = [:]
        for index in 0..<table.end where table[index].state != .free {
            let local = table[index].local
            guard !local.isUnspecified else { continue }
            if !gone.contains(local) {
                guard let present, !present.contains(local) else { continue }
                let isThere = answers[local] ?? HostSocket.isOnHost(local)
                answers[local] = isThere
                if isThere { continue }
            }
            count += 1
            if table[index].key.transport == .tcp {
                if table[index].state != .connecting || !renewSocket(index) {
                    carryOut(table[index].givenUp(), for: index)
                }
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

    /// Counts the flows that keep addresses of the namespace which are to go, and probes those that have been idle.
    ///
    /// The namespace's FIN or reset for a connection may have been lost, with its address for example: a probe to an end
    /// that is gone is answered with a reset.
    mutating func flowsKeeping(_ leaving: Set<IPv6Address>) -> [IPv6Address: Int] {
        var counts: [IPv6Address: Int] = [:]
        for index in 0..<table.end
        where table[index].canCarryData(at: now.nanoseconds) && leaving.contains(table[index].key.guest) {
            counts[table[index].key.guest, default: 0] += 1
            carryOut(table[index].probe(afterIdle: Self.probeAfter, at: now.nanoseconds), for: index)
        }
        return counts
    }

    /// Resets all flows for which `condition` holds.
    mutating func resetFlows(where condition: (Flow) -> Bool) -> Int {
        var count = 0
        flushGathered()
        for index in 0..<table.end where table[index].state != .free && condition(table[index]) {
            count += 1
            if table[index].key.transport == .tcp {
                carryOut(table[index].withdrawn(), for: index)
            } else {
                closeFlow(index)
            }
        }
        return count
    }
}

extension HostSocket {
    /// Whether the host has an address now, as far as bind(2) tells: with `ip_nonlocal_bind` it says yes to any.
    ///
    /// A link-local IPv6 address would need its link; snapshots have all of those.
    fileprivate static func isOnHost(_ address: IPv6Address) -> Bool {
        let plain = IPAddress(unmapping: address)
        if plain.isLoopback { return true }
        let domain = plain.family == .v4 ? AF_INET : AF_INET6
        let number = socket(domain, datagram | CInt(SOCK_CLOEXEC.rawValue), 0)
        // Without a descriptor to ask with, nothing is known that would justify an end.
        guard number >= 0 else { return true }
        defer { close(number) }
        return Endpoint(address: address, port: 0).bind(number) == 0
    }
}
