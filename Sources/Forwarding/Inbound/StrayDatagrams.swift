// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// A datagram of another client can arrive at the socket of a forwarded UDP client between bind(2) and connect(2)
// (PortForwarding/ClientSocket.swift). It must neither pass for that client's nor be lost. So the data path compares
// the sources of what it reads there, and returns the datagrams of other clients.

internal import Glibc
public import LinuxSystem
internal import NetworkTypes

/// A datagram that the data path cannot deliver, and that may be forwarded again.
public struct StrayDatagram: Sendable {
    /// The datagram.
    public var datagram: ReceivedDatagram
    /// True if it arrived at the socket of another client; false if its client's flow no longer exists.
    public var hasFlow: Bool
}

/// Stray datagrams that wait to be returned.
struct StrayDatagrams {
    /// The greatest number of waiting datagrams, which are as many as others send within a microsecond.
    private static let limit = 256

    private var waiting: [StrayDatagram] = []

    var isEmpty: Bool { waiting.isEmpty }

    /// Stores a datagram; false if there is no room.
    mutating func add(_ datagram: StrayDatagram) -> Bool {
        guard waiting.count < Self.limit else { return false }
        waiting.append(datagram)
        return true
    }

    /// Removes and returns all datagrams.
    mutating func take() -> [StrayDatagram] {
        defer { waiting = [] }
        return waiting
    }
}

extension DataPath {
    /// Whether all datagrams of a batch come from the client of a flow.
    func isFromClient(_ index: Int, count: Int) -> Bool {
        let key = table[index].key
        for position in 0..<count {
            guard let source = datagrams.source(position), source.port == key.remotePort, source.address == key.remote
            else { return false }
        }
        return true
    }

    /// Sends a batch of a forwarded flow to the tap, without the datagrams of other clients.
    @inline(never)
    mutating func forwardSorted(_ index: Int, count: Int) {
        let number = table[index].socket
        let peer = HostSocket.peerEndpoint(number)
        // The start of a run of the client's own datagrams; its address may differ from the one that the namespace
        // sees.
        var first = 0
        for position in 0..<count {
            guard let peer, let source = datagrams.source(position),
                source.port != peer.port || source.address != peer.address
            else { continue }
            forwardDatagrams(index, first: first, count: position - first)
            first = position + 1
            guard let local = HostSocket.localEndpoint(number),
                strays.add(
                    unsafe StrayDatagram(
                        datagram: ReceivedDatagram(
                            peer: source, local: local, payload: datagrams.payload(position),
                            count: datagrams.length(position)),
                        hasFlow: true))
            else {
                counters.drop(.socket)
                continue
            }
        }
        forwardDatagrams(index, first: first, count: count - first)
    }
}
