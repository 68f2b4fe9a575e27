// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Netlink
import NetworkModel
import NetworkTypes
import SystemPackage
import TestSupport
import Testing

@testable import PortForwarding

@Suite("Port sets") struct PortSetTests {
    @Test("hold what was put in, and nothing else", arguments: [UInt64(1), 2, 3])
    func holdWhatWasPutIn(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var set = PortSet()
        var oracle: Set<UInt16> = []
        for _ in 0..<2000 {
            let port = UInt16(truncatingIfNeeded: random.next())
            set.insert(port)
            oracle.insert(port)
        }
        #expect(set.ports == oracle.sorted())
        for bounds in [UInt16(0)...UInt16.max, 63...64, 1...63, 65535...65535, 1000...40000] {
            var found: [UInt16] = []
            set.forEach(in: bounds) { found.append($0) }
            #expect(found == oracle.filter(bounds.contains).sorted(), "\(bounds)")
        }
    }

    @Test("union and difference are those of sets")
    func unionAndDifference() {
        var set = PortSet([0, 63, 64, 80, 65535])
        set.subtract(PortSet([63, 80, 81]))
        #expect(set.ports == [0, 64, 65535])
        set.formUnion(PortSet([1]))
        #expect(set.ports == [0, 1, 64, 65535] && !set.isEmpty && PortSet().isEmpty)
    }

    @Test(
        "text joins runs",
        arguments: [
            ([], ""), ([80], "80"), ([80, 81, 82, 90], "80-82, 90"), ([22, 65534, 65535], "22, 65534-65535"),
        ] as [([UInt16], String)])
    func textJoinsRuns(ports: [UInt16], text: String) {
        #expect(PortSet.text(ports) == text)
    }
}

@Suite("Targets of spliced connections") struct SpliceTargetsTests {
    @Test("are of the client's family, and of the other where the namespace has one family only")
    func family() {
        let v4 = IPv6Address(mapping: IPv4Address(10, 1, 0, 2))
        let v6 = IPv6Address([0x2001, 0xDB8, 0, 0, 0, 0, 0, 2])
        let both = SpliceTargets(v4: v4, v6: v6)
        #expect(both.target(isIPv4: true) == v4 && both.target(isIPv4: false) == v6)
        #expect(SpliceTargets(v4: v4).target(isIPv4: false) == v4)
        #expect(SpliceTargets(v6: v6).target(isIPv4: true) == v6)
        #expect(SpliceTargets().target(isIPv4: true) == nil)
    }
}

@Suite("Socket diagnosis (sock_diag(7))") struct SocketDiagnosticsTests {
    @Test("a request asks for the sockets of a family that can be connected to")
    func aRequest() {
        var writer = SocketListMessage.dump(.v6, .udp)
        let request = writer.finish(sequence: 0x0102_0304, portID: 0)
        let expected = hex(
            """
            48000000                        // length 72
            1400 0103                       // SOCK_DIAG_BY_FAMILY, request | dump
            04030201 00000000               // sequence, port id
            0a 11 00 00                     // AF_INET6, UDP, no extensions
            80000000                        // 1 << TCP_CLOSE
            """)
        #expect(Array(request.prefix(24)) == expected)
        #expect(request.count == 72 && request.dropFirst(24).allSatisfy { $0 == 0 })
    }

    /// A listening TCP socket on 127.0.0.1:8089, as Linux 6.18 lists it to a request with sequence 7.
    static let listed = hex(
        """
        7c000000 1400 0200 07000000 9d040000    // length 124, SOCK_DIAG_BY_FAMILY, multi, sequence, port id
        02 0a 00 00                             // AF_INET, TCP_LISTEN
        1f99 0000                               // 8089, no peer
        7f000001 00000000 00000000 00000000     // 127.0.0.1
        00000000 00000000 00000000 00000000
        00000000 2e590100 00000000              // interface, cookie
        00000000 00000000 01000000              // expires, queues
        00000000 02523510                       // user, inode: patched below
        0500 0800 00000000 0800 0f00 00000000 0c00 1500 0100000000000000 0600 1600 52000000
        """)
    static let done = hex("14000000 0300 0200 07000000 9d040000 00000000")

    @Test("an answer gives port, user and inode, and ends with its last message")
    func anAnswer() {
        var sockets: [ListedSocket] = []
        #expect(SocketListMessage.parse(Self.listed.span, sequence: 7, into: &sockets) == .more)
        #expect(sockets == [ListedSocket(port: 8089, user: 0, inode: 0x1035_5202)])
        #expect(SocketListMessage.parse(Self.done.span, sequence: 7, into: &sockets) == .done)
        let both = Self.listed + Self.done
        #expect(SocketListMessage.parse(both.span, sequence: 7, into: &sockets) == .done)
        #expect(sockets.count == 2)
        #expect(SocketListMessage.parse(both.span, sequence: 8, into: &sockets) == .more)
        #expect(sockets.count == 2, "an answer to another request")
    }

    @Test("a refusal is reported with its error")
    func aRefusal() {
        var sockets: [ListedSocket] = []
        let refusal = hex("24000000 0200 0000 07000000 00000000 feffffff 48000000 1400 0103 07000000 00000000")
        #expect(
            SocketListMessage.parse(refusal.span, sequence: 7, into: &sockets) == .failed(.noSuchFileOrDirectory))
    }

    @Test("cut and damaged answers are refused or passed over, and never trap", arguments: [UInt64(1), 2, 3, 4])
    func damagedAnswers(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let whole = Self.listed + Self.done
        var sockets: [ListedSocket] = []
        for length in 0..<whole.count {
            let cut = Array(whole.prefix(length))
            _ = SocketListMessage.parse(cut.span, sequence: 7, into: &sockets)
        }
        for _ in 0..<5000 {
            var bytes = whole
            for _ in 0..<4 {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
            }
            _ = SocketListMessage.parse(bytes.span, sequence: 7, into: &sockets)
            let noise = random.bytes(upTo: 300)
            _ = SocketListMessage.parse(noise.span, sequence: 7, into: &sockets)
        }
    }

    @Test("what others listen on leaves out what we do; a number of TCP counts for UDP")
    func withoutOwn() {
        let ports = ListeningPorts(tcp: PortSet([80, 443, 8080]), udp: PortSet([53, 80, 443]))
        let own = ListeningPorts(tcp: PortSet([8080]), udp: PortSet([443]))
        let others = ForwardedPorts.withoutOwn(ports, own: own)
        #expect(others.tcp.ports == [80, 443])
        #expect(others.udp.ports == [53, 80, 443])
    }
}
