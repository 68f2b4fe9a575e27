// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkTypes
import TestSupport
import Testing
import Wire

@Suite("ARP (RFC 826)")
struct ARPTests {
    @Test("writes back captured messages", arguments: [Capture.arpRequest, .arpReply])
    func writesBack(capture: Capture) throws {
        let message = try ARPMessage(frame: capture.frame.span)
        var frame = [UInt8](repeating: 0xEE, count: ARPMessage.frameLength)
        let destination = try EthernetHeader(capture.frame.span).destination
        var span = frame.mutableSpan
        #expect(message.write(into: &span, to: destination) == capture.frame.count)
        #expect(frame == capture.frame)
    }

    @Test("knows probes and announcements (RFC 5227)")
    func knowsProbesAndAnnouncements() {
        let address = IPv4Address(192, 0, 2, 9)
        func request(_ sender: IPv4Address) -> ARPMessage {
            ARPMessage(.request, senderMAC: .broadcast, senderAddress: sender, targetAddress: address)
        }
        #expect(request(.unspecified).isProbe && !request(.unspecified).isAnnouncement)
        #expect(!request(address).isProbe && request(address).isAnnouncement)
        #expect(!request(.loopback).isProbe && !request(.loopback).isAnnouncement)
    }
}
