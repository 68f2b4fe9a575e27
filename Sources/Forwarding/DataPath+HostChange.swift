// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What a change of the host means for existing flows.
//
// A socket does not report that its address is gone, so flows are found by their address. TCP connections are reset
// towards the namespace, so that programs connect again. A datagram flow keeps its addresses on the namespace's side
// and gets a new socket on the host's side, so the sender can go on. The same is done for a connection attempt, of
// which the namespace does not know the result yet. If the default route has moved away from the link of an address
// that stays, the flows of that address are bound to the link.
//
// Whether the host still has an address is decided by the present state, not by the change: an address may come, be
// used by a flow and go again between two snapshots. For an address that is not in the snapshot, the kernel is asked
// with bind(2).
//
// An address of the namespace that is no longer planned is kept only by established connections that can still carry
// data (`Flow.canCarryData`). By protocol and state:
//
//   UDP, echo, queries for the host's resolvers    keep nothing; they end when the address goes
//   connecting, synReceived, synSent               keep nothing; reset when the address goes
//   established                                    keeps it as long as the host's side is alive
//   established, one side has ended                keeps it as long as something passes every two seconds
//   established, both sides have ended             keeps nothing

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage
internal import Wire

extension DataPath {
    /// How long a connection on a unplanned address may be silent before it is probed, in nanoseconds.
    private static let probeAfter: Int64 = 1_000_000_000

    /// Ends or moves the flows whose host address is gone.
    ///
    /// - Parameters:
    ///   - gone: Addresses that are known to be gone.
    ///   - present: Addresses that the host has; nil if only `gone` is known.
    /// - Returns: The number of flows.
    mutating func endOrMoveFlows(at gone: Set<IPv6Address>, present: Set<IPv6Address>? = nil) -> Int {
        flushGathered()
        ending = .addressGone
        defer { ending = nil }
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
                    carryOut(table[index].abandoned(), for: index)
                }
            } else if table[index].flags.contains(.inbound) || !renewSocket(index) {
                closeFlow(index)
            }
        }
        return count
    }

    /// Gives a datagram flow, or a connection attempt, a new socket; false if none can be opened now.
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
        // The old socket is closed first, because the new one may need its port.
        HostSocket.close(table[index].socket)
        table[index].socket = -1
        guard
            let number = try? HostSocket.connect(
                to: target, type: type, ipProtocol: ipProtocol, source: source,
                sourcePort: key.transport == .udp ? key.guestPort : 0, device: device),
            watch(index, socket: number)
        else { return false }
        table[index].flags.remove(.pinned)
        // The default of a new socket; the next packet changes it if it differs.
        table[index].ttl = 64
        if let local = HostSocket.localEndpoint(number) { table[index].local = local.address }
        return true
    }

    /// Binds the sockets of flows to the link of their address, once for each.
    mutating func pinFlows(_ devices: [IPv6Address: String]) {
        for index in 0..<table.end where table[index].state != .free && !table[index].flags.contains(.pinned) {
            guard table[index].socket >= 0, let device = devices[table[index].local] else { continue }
            table[index].flags.insert(.pinned)
            // The kernel refuses if the socket is bound to a link already or the link is gone; the flow is routed as
            // before then.
            try? HostSocket.bind(table[index].socket, toDevice: device)
        }
    }

    /// Counts the flows that keep unplanned addresses of the namespace, and probes those that have been idle.
    ///
    /// The namespace's FIN or reset of a connection may have been lost, for example with its address. If the other end
    /// is gone, it answers a probe with a reset.
    mutating func connectionCounts(_ unplanned: Set<IPv6Address>) -> [IPv6Address: Int] {
        var counts: [IPv6Address: Int] = [:]
        for index in 0..<table.end
        where table[index].canCarryData(at: now.nanoseconds) && unplanned.contains(table[index].key.guest) {
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
    /// Whether the host has an address now, as far as bind(2) can tell: with `ip_nonlocal_bind` it accepts any address.
    ///
    /// A link-local IPv6 address would need its link; snapshots contain all of those.
    fileprivate static func isOnHost(_ address: IPv6Address) -> Bool {
        let plain = IPAddress(unmapping: address)
        if plain.isLoopback { return true }
        // Without a descriptor to ask with, there is no reason to end the flow.
        guard let number = try? HostSocket.open(plain.family, type: datagram) else { return true }
        defer { HostSocket.close(number) }
        return (try? Endpoint(address: address, port: 0).bind(number)) != nil
    }
}
