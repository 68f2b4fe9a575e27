// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing

@testable import VirtualMachine

/// A message's bytes, as the virtual machine's program sends them.
struct Request {
    var request: UInt32
    var flags: UInt32 = 1
    var payload: [UInt8] = []
    var size: UInt32?

    static func bytes(_ number: some FixedWidthInteger) -> [UInt8] {
        (0..<(number.bitWidth / 8)).map { UInt8(truncatingIfNeeded: number >> (8 * $0)) }
    }

    var bytes: [UInt8] {
        Self.bytes(request) + Self.bytes(flags) + Self.bytes(size ?? UInt32(payload.count)) + payload
    }

    /// Reads it back.
    func read() throws(VhostUserFault) -> (VhostUserHeader, VhostUserMessage) {
        let bytes = bytes
        let header = try VhostUserHeader(bytes.span.bytes)
        return (header, try VhostUserMessage(header, payload: payload.span.bytes, rings: 2))
    }

    static func numbers(_ request: UInt32, _ numbers: UInt64...) -> Request {
        Request(request: request, payload: numbers.flatMap { bytes($0) })
    }

    static func state(_ request: UInt32, ring: UInt32, _ number: UInt32) -> Request {
        Request(request: request, payload: bytes(ring) + bytes(number))
    }

    static func addresses(ring: UInt32, flags: UInt32 = 0, _ numbers: UInt64...) -> Request {
        Request(request: 9, payload: bytes(ring) + bytes(flags) + numbers.flatMap { bytes($0) })
    }

    static func table(_ regions: [VhostUserRegion], count: UInt32? = nil) -> Request {
        var payload = bytes(count ?? UInt32(regions.count)) + bytes(UInt32(0))
        for region in regions {
            for number in [region.guestAddress, region.size, region.userAddress, region.mappingOffset] {
                payload += bytes(number)
            }
        }
        return Request(request: 5, payload: payload)
    }
}

private let regions = [
    VhostUserRegion(guestAddress: 0, size: 0x1000, userAddress: 0x7000_0000, mappingOffset: 0),
    VhostUserRegion(guestAddress: 0x1_0000_0000, size: 0x2000, userAddress: 0x8000_0000, mappingOffset: 0x1000),
]

@Suite("vhost-user's messages") struct VhostUserTests {
    @Test("every request is read as what it is")
    func requestsAreRead() throws {
        let addresses = VhostUserRingAddresses(descriptors: 16, used: 32, available: 48, log: 64, isLogged: true)
        let expected: [(Request, VhostUserMessage)] = [
            (Request(request: 1), .getFeatures), (.numbers(2, 1 << 32), .setFeatures(1 << 32)),
            (Request(request: 3), .setOwner), (Request(request: 4), .resetOwner),
            (.table(regions), .setMemoryTable(regions)),
            (.numbers(6, 4096, 8), .setLogBase(size: 4096, offset: 8)), (.numbers(7, 0), .setLogDescriptor),
            (.state(8, ring: 1, 256), .setRingSize(ring: 1, 256)),
            (.addresses(ring: 1, flags: 1, 16, 32, 48, 64), .setRingAddresses(ring: 1, addresses)),
            (.state(10, ring: 0, 0xFFFF), .setRingBase(ring: 0, 0xFFFF)),
            (.state(11, ring: 1, 0), .getRingBase(ring: 1)),
            (.numbers(12, 1), .setRingKick(ring: 1, hasDescriptor: true)),
            (.numbers(12, 0x101), .setRingKick(ring: 1, hasDescriptor: false)),
            (.numbers(13, 0), .setRingCall(ring: 0, hasDescriptor: true)),
            (.numbers(14, 0x100), .setRingError(ring: 0, hasDescriptor: false)),
            (Request(request: 15), .getProtocolFeatures), (.numbers(16, 8), .setProtocolFeatures(8)),
            (Request(request: 17), .getQueueNumber), (.state(18, ring: 1, 1), .setRingEnabled(ring: 1, true)),
            (.numbers(20, 1500), .unknown(request: 20)), (Request(request: .max), .unknown(request: .max)),
        ]
        for (request, message) in expected {
            #expect(try request.read().1 == message)
            // A byte less is another size, but for what is not read any further.
            guard !request.payload.isEmpty, request.request != 7, request.request != 20 else { continue }
            var short = request
            short.payload.removeLast()
            #expect(throws: VhostUserFault.payloadSize) { try short.read() }
        }
    }

    @Test("hostile headers are refused")
    func hostileHeaders() {
        #expect(throws: VhostUserFault.version) { try Request(request: 1, flags: 0).read() }
        #expect(throws: VhostUserFault.version) { try Request(request: 1, flags: 2).read() }
        #expect(throws: VhostUserFault.reply) { try Request(request: 1, flags: 5).read() }
        #expect(throws: VhostUserFault.tooLong) { try Request(request: 1, size: 265).read() }
        #expect(throws: VhostUserFault.tooLong) { try Request(request: 1, size: .max).read() }
        #expect(throws: VhostUserFault.payloadSize) { try Request(request: 1, size: 264).read() }
    }

    @Test("hostile numbers are refused")
    func hostileNumbers() {
        let hostile: [Request] = [
            .state(8, ring: 2, 256), .state(8, ring: .max, 256), .state(8, ring: 0, 0), .state(8, ring: 0, 3),
            .state(8, ring: 0, 65536), .state(8, ring: 0, .max), .state(10, ring: 0, 0x10000),
            .state(11, ring: 2, 0), .numbers(12, 2), .numbers(12, 0xFF), .numbers(13, 0x200), .numbers(14, .max),
            .state(18, ring: 0, 2), .numbers(6, 0, 0), .numbers(6, 2, .max), .table([]), .table(regions, count: 9),
            .table(regions, count: .max), .addresses(ring: 2, 0, 0, 0, 0),
        ]
        for request in hostile {
            #expect(throws: VhostUserFault.outOfBounds, "\(request)") { try request.read() }
        }
        #expect(throws: VhostUserFault.payloadSize) { try Request.table(regions, count: 1).read() }
    }

    @Test("regions that are empty, go round or overlap are refused")
    func hostileRegions() {
        let changes: [(inout VhostUserRegion) -> Void] = [
            { $0.size = 0 }, { $0.size = .max }, { $0.guestAddress = .max - 10 }, { $0.userAddress = .max },
            { $0.mappingOffset = .max - 0xFFF }, { $0.guestAddress = 0xFFF }, { $0.userAddress = 0x7000_0FFF },
        ]
        for change in changes {
            var table = regions
            change(&table[1])
            #expect(throws: VhostUserFault.outOfBounds) { try Request.table(table).read() }
        }
    }

    private static func handle(
        _ session: inout VhostUserSession, _ request: Request, descriptors: Int = 0, needsReply: Bool = false
    ) throws -> VhostUserSession.Verdict {
        var request = request
        if needsReply { request.flags |= 8 }
        let (header, message) = try request.read()
        return session.handle(message, header: header, descriptors: descriptors)
    }

    private static func answer(_ request: UInt32, _ number: UInt64) -> [UInt8] {
        Request(request: request, flags: 5, payload: Request.bytes(number)).bytes
    }

    @Test("a session as QEMU begins one leaves both rings running, and stops them with their places")
    func aSession() throws {
        var session = VhostUserSession()
        func expect(
            _ request: Request, descriptors: Int = 0, needsReply: Bool = false, answer: UInt64? = nil
        ) throws {
            let verdict = try Self.handle(&session, request, descriptors: descriptors, needsReply: needsReply)
            guard case .accepted(let bytes) = verdict else {
                Issue.record("\(request) was refused")
                return
            }
            #expect(bytes?.bytes == answer.map { Self.answer(request.request, $0) })
        }
        let features: UInt64 = 0x01C0_0001_4000_B983
        #expect(VhostUserSession.Feature.network == features)
        try expect(Request(request: 1), answer: features)
        try expect(Request(request: 15), answer: 8)
        try expect(.numbers(16, 8))
        try expect(Request(request: 17), answer: 1)
        try expect(Request(request: 3), needsReply: true, answer: 0)
        try expect(.numbers(2, features))
        try expect(.table(regions), descriptors: 2, needsReply: true, answer: 0)
        for ring in UInt32(0)...1 {
            try expect(.state(8, ring: ring, 256))
            try expect(.state(10, ring: ring, 7))
            try expect(.addresses(ring: ring, 0x7000_0000, 0x7000_0100, 0x7000_0200, 0))
            try expect(.numbers(12, UInt64(ring)), descriptors: 1)
            try expect(.numbers(13, UInt64(ring)), descriptors: 1)
            #expect(!session.rings[Int(ring)].isRunning)
            try expect(.state(18, ring: ring, 1), needsReply: true, answer: 0)
            #expect(session.rings[Int(ring)].isRunning)
        }
        #expect(session.regions == regions)
        session.note(base: 0xFFFE, of: 1)
        try expect(.state(11, ring: 1, 0), answer: 1 | 0xFFFE << 32)
        #expect(!session.rings[1].isRunning && session.rings[0].isRunning)
        try expect(Request(request: 4))
        #expect(!session.rings[0].isRunning && session.features == 0)
    }

    @Test("a session refuses invalid messages, with an answer if the sender waits for one")
    func refusals() throws {
        var session = VhostUserSession()
        #expect(try Self.handle(&session, .numbers(16, 8)) == .accepted(nil))
        let refused: [(Request, Int)] = [
            (.numbers(2, 4), 0), (.numbers(16, 1), 0), (.table(regions), 1), (.table(regions), 3),
            (.numbers(12, 0), 0), (.numbers(12, 0x100), 0), (.numbers(12, 0), 2),
            (.numbers(20, 1500), 0), (.numbers(7, 0), 1), (Request(request: 3), 1),
        ]
        for (request, descriptors) in refused {
            let before = session
            let verdict = try Self.handle(&session, request, descriptors: descriptors)
            #expect(verdict == .refused(nil), "\(request)")
            let told = try Self.handle(&session, request, descriptors: descriptors, needsReply: true)
            #expect(told == .refused(VhostUserAnswer(to: request.request, 1)), "\(request)")
            #expect(session.features == before.features && session.rings == before.rings)
            #expect(session.regions == before.regions)
        }
        #expect(try Self.handle(&session, .numbers(12, 0), descriptors: 1) == .accepted(nil))
        #expect(try Self.handle(&session, .state(8, ring: 0, 8)) == .refused(nil), "not while it runs")
    }
}
