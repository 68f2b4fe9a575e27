// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// A ClientHello is a handshake message in one or more TLS records (RFC 8446 §4.1.2, §5.1). There is no result before
// the whole message has arrived, because a second server_name extension would make it malformed.

internal import Wire

/// The reader of the server's name in TLS.
enum ClientHello {
    /// The type of a record that carries handshake messages.
    static let handshakeRecord: UInt8 = 22

    private static let clientHello: UInt8 = 1
    private static let longestRecord = 1 << 14
    private static let serverNameExtension: UInt16 = 0
    /// RFC 9849 §5.
    private static let encryptedClientHelloExtension: UInt16 = 0xFE0D

    private struct Malformed: Error {}

    static func read(_ bytes: Span<UInt8>) -> ServerName {
        var message: [UInt8] = []
        var offset = 0
        while true {
            // The header of a record: type, version (its first byte is 3 in all versions), length.
            let left = bytes.count - offset
            if left > 0, bytes[offset] != handshakeRecord { return offset == 0 ? .otherProtocol : .unusable }
            if left > 1, bytes[offset + 1] != 3 { return offset == 0 ? .otherProtocol : .unusable }
            guard left >= 5 else { return .needMore }
            let length = Int(bytes.bigEndian16(at: offset + 3))
            guard (1...longestRecord).contains(length) else { return .unusable }
            let end = min(offset + 5 + length, bytes.count)
            for index in (offset + 5)..<end { message.append(bytes[index]) }
            if let first = message.first, first != clientHello { return .unusable }
            if message.count >= 4 {
                let wanted = Int(message[1]) << 16 | Int(message[2]) << 8 | Int(message[3])
                guard wanted <= ServerName.longest else { return .unusable }
                if message.count - 4 >= wanted {
                    return (try? name(message.span.extracting(4..<(4 + wanted)))) ?? .unusable
                }
            }
            guard end == offset + 5 + length else { return .needMore }
            offset = end
        }
    }

    /// Reads the message's body.
    private static func name(_ body: Span<UInt8>) throws(Malformed) -> ServerName {
        var reader = Reader(bytes: body)
        try reader.skip(2 + 32)
        try reader.skip(reader.number(1))
        try reader.skip(reader.number(2))
        try reader.skip(reader.number(1))
        // TLS before 1.3 may end here (RFC 5246 §7.4.1.2).
        if reader.left == 0 { return .absent }
        guard try reader.number(2) == reader.left else { throw Malformed() }
        var result: ServerName?
        var isOuter = false
        while reader.left > 0 {
            let type = UInt16(try reader.number(2))
            let length = try reader.number(2)
            let start = reader.offset
            try reader.skip(length)
            if type == encryptedClientHelloExtension { isOuter = true }
            guard type == serverNameExtension else { continue }
            guard result == nil else { throw Malformed() }
            result = try serverName(body.extracting(start..<(start + length)))
        }
        guard case .name(let name, _)? = result else { return result ?? .absent }
        return .name(name, isOuter: isOuter)
    }

    /// Reads the extension (RFC 6066 §3): a list of names of different types, of which only host names are defined.
    private static func serverName(_ bytes: Span<UInt8>) throws(Malformed) -> ServerName {
        var reader = Reader(bytes: bytes)
        guard try reader.number(2) == reader.left, reader.left > 0 else { throw Malformed() }
        var result: ServerName = .absent
        while reader.left > 0 {
            let type = try reader.number(1)
            let length = try reader.number(2)
            let start = reader.offset
            try reader.skip(length)
            guard type == 0 else { continue }
            guard result == .absent else { throw Malformed() }
            let name = DomainName(ascii: bytes.extracting(start..<(start + length)))
            result = name.map { .name($0, isOuter: false) } ?? .unusable
        }
        return result
    }

    private struct Reader: ~Escapable {
        let bytes: Span<UInt8>
        private(set) var offset = 0

        @_lifetime(copy bytes)
        init(bytes: Span<UInt8>) {
            self.bytes = bytes
        }

        var left: Int { bytes.count - offset }

        mutating func skip(_ count: Int) throws(Malformed) {
            guard count <= left else { throw Malformed() }
            offset += count
        }

        /// Takes a number of one or two bytes.
        mutating func number(_ size: Int) throws(Malformed) -> Int {
            guard size <= left else { throw Malformed() }
            let value = size == 1 ? Int(bytes[offset]) : Int(bytes.bigEndian16(at: offset))
            offset += size
            return value
        }
    }
}
