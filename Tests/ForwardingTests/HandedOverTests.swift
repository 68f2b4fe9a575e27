// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import NetworkTypes
import SystemPackage
import TestSupport
import Testing
import Wire

@testable import Forwarding

@Suite("Descriptors that are handed over")
struct HandedOverTests {
    /// Descriptors that cannot carry frames, and the word that says what they are.
    enum Wrong: String, CaseIterable, Sendable, CustomTestStringConvertible {
        case closed = "not open"
        case directory = "a directory"
        case file = "a regular file"
        case pipe = "a pipe"
        case null = "neither a tap nor a tun"
        case tunWithoutInterface = "without an interface"
        case datagrams = "no stream"
        case listening = "listens"
        case unconnected = "not connected"

        var testDescription: String { rawValue }

        /// Makes one; the number is the caller's to close.
        func make() throws -> CInt? {
            switch self {
            case .closed:
                // A number that nothing gets by itself.
                return 1_000_003
            case .directory: return open("/", O_RDONLY | O_DIRECTORY)
            case .file: return open("/proc/self/exe", O_RDONLY)
            case .null: return open("/dev/null", O_RDWR)
            case .tunWithoutInterface:
                let number = open("/dev/net/tun", O_RDWR)
                return number >= 0 ? number : nil
            case .pipe:
                var ends: [CInt] = [-1, -1]
                try #require(Glibc.pipe(&ends) == 0)
                Glibc.close(ends[1])
                return ends[0]
            case .datagrams: return socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0)
            case .unconnected: return socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
            case .listening:
                let number = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
                try #require(listen(number, 1) == 0)
                return number
            }
        }
    }

    @Test("what cannot carry frames is refused in one line that says what it is", arguments: Wrong.allCases)
    func refused(wrong: Wrong) throws {
        // A machine without the device has nothing to refuse.
        guard let number = try wrong.make() else { return }
        do throws(LinkSource.Refusal) {
            _ = try LinkSource.handedOver(number)
            Issue.record("accepted")
        } catch {
            #expect(error.description.contains(wrong.rawValue) && !error.description.contains("\n"), "\(error)")
            #expect(error.description.contains("; "), "a remedy: \(error)")
        }
        if wrong != .closed { #expect(close(number) == 0, "it is left open") }
    }

    @Test("a connected stream socket is taken as it is")
    func takenStream() throws {
        var ends: [CInt] = [-1, -1]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends) == 0)
        defer { close(ends[0]) }
        let source = try LinkSource.handedOver(ends[1])
        #expect(source.descriptor.rawValue == ends[1])
        #expect(fcntl(ends[1], F_GETFD) & FD_CLOEXEC != 0)
        guard case .stream(let link) = source.link() else {
            Issue.record("another link")
            return
        }
        #expect(link.hasClient)
    }

    // MARK: tun

    /// A socket pair, whose ends keep packets apart: one end is taken for a tun device, the other is the test's.
    private static func ends() throws -> (device: CInt, other: CInt) {
        var ends: [CInt] = [-1, -1]
        try #require(socketpair(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0, &ends) == 0)
        return (ends[0], ends[1])
    }

    private static func tun(_ number: CInt) throws -> TunDevice {
        try TunDevice(handedOver: OwnedFileDescriptor(taking: number), name: "tun0", hasHeader: false)
    }

    @Test("a packet from a tun gets an Ethernet header of its family", arguments: [AddressFamily.v4, .v6])
    func received(family: AddressFamily) throws {
        let ends = try Self.ends()
        let device = try Self.tun(ends.device)
        defer { close(ends.other) }
        let packet = Array(GuestFrame.udp(GuestFrame.Path(family, to: 7), stream(100)).dropFirst(14))
        #expect(send(ends.other, packet, packet.count, 0) == packet.count)
        var arena = FrameArena()
        guard case .frame(let start, let count, let header) = device.receive(into: &arena) else {
            Issue.record("no frame")
            return
        }
        let frame = Array(UnsafeRawBufferPointer(start: start, count: count))
        let ethernet = try EthernetHeader(frame.span)
        #expect(ethernet.type == (family == .v4 ? .ipv4 : .ipv6) && ethernet.source == TunDevice.guestAddress)
        #expect(Array(frame.dropFirst(14)) == packet && header == VirtioNetHeader())
        guard case .empty = device.receive(into: &arena) else {
            Issue.record("one packet only")
            return
        }
    }

    @Test("a frame to a tun loses its Ethernet header, in one piece or several; one without IP goes nowhere")
    func sent() throws {
        let ends = try Self.ends()
        let device = try Self.tun(ends.device)
        defer { close(ends.other) }
        var frame = GuestFrame.udp(GuestFrame.Path(to: 7), stream(100))
        let count = frame.count
        let whole = Array(frame.dropFirst(14))
        func next() -> [UInt8]? {
            var buffer = [UInt8](repeating: 0, count: 2048)
            let length = recv(ends.other, &buffer, buffer.count, CInt(MSG_DONTWAIT))
            return length > 0 ? Array(buffer[..<length]) : nil
        }
        frame.withUnsafeMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            let isSent = device.transmit(start, count: count, header: VirtioNetHeader())
            #expect(isSent)
            #expect(next() == whole)
            var pieces = [iovec(iov_base: start, iov_len: 50), iovec(iov_base: start + 50, iov_len: count - 50)]
            pieces.withUnsafeMutableBufferPointer { buffer in
                guard let first = buffer.baseAddress else { return }
                let isSent = device.transmit(first, count: 2, header: VirtioNetHeader())
                #expect(isSent)
            }
            #expect(next() == whole)
        }
        var request = GuestFrame.arpRequest(target: Lab.host4)
        let length = request.count
        request.withUnsafeMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            let isSent = device.transmit(start, count: length, header: VirtioNetHeader())
            #expect(isSent)
        }
        #expect(next() == nil)
    }
}
