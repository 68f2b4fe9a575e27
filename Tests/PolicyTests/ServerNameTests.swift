// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Policy
import TestSupport
import Testing

@Suite("the server's name in a client's first bytes")
struct ServerNameTests {
    private func name(_ text: String, isOuter: Bool = false) throws -> ServerName {
        .name(try #require(DomainName(text)), isOuter: isOuter)
    }

    /// Reads what has come; a span cannot stand in an expectation.
    private func read(_ bytes: some Sequence<UInt8>) -> ServerName {
        let bytes = Array(bytes)
        return ServerName.read(bytes.span)
    }

    // MARK: TLS

    private static func sized(_ size: Int, _ bytes: [UInt8]) -> [UInt8] {
        (0..<size).reversed().map { UInt8(truncatingIfNeeded: bytes.count >> ($0 * 8)) } + bytes
    }

    private static func serverName(_ text: String, type: UInt8 = 0) -> [UInt8] {
        [0, 0] + sized(2, sized(2, [type] + sized(2, Array(text.utf8))))
    }

    /// A ClientHello (RFC 8446 §4.1.2), in records of a size.
    private static func hello(_ extensions: [UInt8]?, recordSize: Int = 16384) -> [UInt8] {
        var body: [UInt8] = [3, 3] + [UInt8](repeating: 7, count: 32) + sized(1, [UInt8](repeating: 9, count: 32))
        body += sized(2, [0x13, 0x01, 0x13, 0x02]) + sized(1, [0])
        if let extensions { body += sized(2, extensions) }
        let message = [1] + sized(3, body)
        var bytes: [UInt8] = []
        for start in stride(from: 0, to: message.count, by: recordSize) {
            bytes += [22, 3, 1] + sized(2, Array(message[start..<min(start + recordSize, message.count)]))
        }
        return bytes
    }

    private static let versions: [UInt8] = [0, 43] + sized(2, sized(1, [3, 4]))
    private static let encrypted: [UInt8] = [0xFE, 0x0D] + sized(2, [0, 0, 1, 0, 1, 5])

    @Test("is read from a ClientHello, whatever the records' sizes", arguments: [1, 2, 5, 50, 16384])
    func isReadFromAClientHello(size: Int) throws {
        let bytes = Self.hello(Self.versions + Self.serverName("WWW.Example.org"), recordSize: size)
        #expect(read(bytes) == (try name("www.example.org")))
        for count in 0..<bytes.count { #expect(read(bytes[..<count]) == .needMore, "\(count)") }
        // What follows changes nothing.
        #expect(read(bytes + [1, 2, 3]) == (try name("www.example.org")))
    }

    @Test("is marked as the outer one if the ClientHello is encrypted")
    func isToldToBeTheOuterOne() throws {
        for extensions in [Self.serverName("a.org") + Self.encrypted, Self.encrypted + Self.serverName("a.org")] {
            #expect(read(Self.hello(extensions)) == (try name("a.org", isOuter: true)))
        }
    }

    @Test("is absent without the extension, or without a name of the known type")
    func isAbsent() {
        for extensions in [nil, [], Self.versions, Self.encrypted, Self.serverName("a.org", type: 7)] {
            #expect(read(Self.hello(extensions)) == .absent)
        }
    }

    @Test(
        "is not usable in a ClientHello that is malformed or no domain",
        arguments: [
            hello(serverName("a.org") + serverName("a.org")), hello(serverName("a.org") + serverName("b.org")),
            hello(serverName("")), hello(serverName("192.0.2.1")), hello(serverName("a\u{0}.org")),
            hello(serverName("[::1]")),
            hello(serverName("a b.org")), hello(serverName(String(repeating: "a.", count: 130) + "org")),
            hello([0, 0] + sized(2, [])), hello([0, 0] + sized(2, sized(2, []))),
            hello([0, 0] + sized(2, [0, 9, 0, 0, 1, 97])),
            hello([0, 0] + sized(2, sized(2, [0] + sized(2, [97]) + [0] + sized(2, [98])))), hello([0, 0, 0]),
            hello([0, 43, 0, 9, 1]), [22, 3, 1, 0, 0], [22, 3, 1, 0x40, 1], [22, 3, 1, 0, 1, 2],
            [22, 3, 1, 0, 4, 1, 0xFF, 0, 0],
            [22, 3, 1, 0, 6, 1, 0, 0, 2, 3, 3], [22, 3, 1, 0, 2, 1, 0, 21], [22, 3, 1, 0, 2, 1, 0, 22, 2],
        ])
    func isNotUsable(bytes: [UInt8]) {
        #expect(read(bytes) == .unusable)
    }

    @Test("is not waited for beyond the bound")
    func isNotWaitedFor() {
        let padding: [UInt8] = [0, 21] + Self.sized(2, [UInt8](repeating: 0, count: 20000))
        let long = Self.hello(padding + Self.serverName("a.org"))
        #expect(read(long) == .unusable)
        let header = Array("GET / HTTP/1.1\r\nX: ".utf8) + [UInt8](repeating: 97, count: 20000)
        #expect(read(header) == .unusable)
        let tiny = [UInt8]([22, 3, 1, 0, 1, 1] + (0..<4000).flatMap { _ in [22, 3, 1, 0, 1, 0] as [UInt8] })
        #expect(read(tiny) != .needMore)
    }

    // MARK: HTTP/1

    @Test(
        "is read from the Host header",
        arguments: [
            "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", "GET / HTTP/1.0\nhOsT:example.org\n\n",
            "POST /a?b HTTP/1.1\r\nUser-Agent: x\r\nHost: \t Example.ORG.:8080 \r\nA: b\r\n\r\nbody",
            "GET http://example.org/ HTTP/1.1\r\nHost: example.org:80\r\n\r\n",
            "GET http://example.org HTTP/1.0\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n",
            "GET /http://evil.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n",
            "M-SEARCH /\u{e9} HTTP/1.1\r\nHost: example.org\r\nX: \u{e9}\r\n\r\n",
        ])
    func isReadFromTheHostHeader(text: String) throws {
        let bytes = Array(text.utf8)
        let end = try #require((0...bytes.count).first { read(bytes[..<$0]) != .needMore })
        for count in end...bytes.count { #expect(read(bytes[..<count]) == (try name("example.org"))) }
        #expect(text.hasSuffix("body") || end == bytes.count)
    }

    @Test(
        "is not usable in a request that contradicts itself, or gives no domain",
        arguments: [
            "GET / HTTP/1.1\r\nHost: a.org\r\nHost: a.org\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org\nHost: b.org\r\n\r\n",
            "GET http://a.org/ HTTP/1.1\r\nHost: b.org\r\n\r\n",
            "GET http://192.0.2.1/ HTTP/1.1\r\nHost: a.org\r\n\r\n",
            "GET http://u@a.org/ HTTP/1.1\r\nHost: a.org\r\n\r\n", "GET / HTTP/1.1\r\nHost : a.org\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a.org\r\n\r\n", "GET / HTTP/1.1\r\nX: y\r\n Host: a.org\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\rHost: b.org\r\nHost: a.org\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.org\u{0}\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.org, b.org\r\n\r\n", "GET / HTTP/1.1\r\nHost: a.org:x\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a.org\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        ])
    func isNotUsableInARequest(text: String) {
        #expect(read(text.utf8) == .unusable)
    }

    @Test(
        "is absent in a request without one", arguments: ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost:\r\n\r\n"])
    func isAbsentInARequest(text: String) {
        #expect(read(text.utf8) == .absent)
    }

    @Test(
        "is not looked for in other protocols",
        arguments: [
            "SSH-2.0-OpenSSH_9.2p1\r\n", "PRI * HTTP/2.0\r\n\r\n", "EHLO there\r\n", "\u{0}\u{1}", "\u{16}\u{2}",
            "{\"a\":1}\n",
            "GET /\r\n", "GET / HTTP/1.1 \r\n", "GET / HTTP/1.11\r\n", " GET / HTTP/1.1\r\n",
            "AAAAAAAAAABBBBBBBBBBCCCCCCCCCCDDDDD",
            "USER a\u{7}", "GET / HTTP/1.1\rX",
        ])
    func isNotLookedFor(text: String) {
        #expect(read(text.utf8) == .otherProtocol)
    }

    // MARK: Hostile bytes

    @Test(
        "of any bytes is read without a trap, and never changes with more of them", arguments: 0..<12 as Range<UInt64>)
    func ofAnyBytes(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let seeds = [
            Self.hello(Self.versions + Self.serverName("www.example.org") + Self.encrypted, recordSize: 40),
            Self.hello(Self.serverName("a.org")),
            Array("GET http://a.org/ HTTP/1.1\r\nHost: a.org:80\r\nX: y\r\n\r\n".utf8), [22, 3, 1],
            Array("POST ".utf8), [],
        ]
        for _ in 0..<250 {
            var bytes = seeds[Int.random(in: 0..<seeds.count, using: &random)]
            for _ in 0..<Int.random(in: 0...4, using: &random) where !bytes.isEmpty {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0..<3, using: &random) {
                case 0: bytes[index] = UInt8.random(in: .min ... .max, using: &random)
                case 1: bytes.remove(at: index)
                default: bytes.insert(bytes[Int.random(in: 0..<bytes.count, using: &random)], at: index)
                }
            }
            bytes += random.bytes(upTo: 40)
            var settled: ServerName?
            for count in 0...bytes.count {
                let result = read(bytes[..<count])
                if let settled { #expect(result == settled, "seed \(seed): \(bytes) at \(count)") }
                if result != .needMore { settled = result }
            }
        }
    }
}
