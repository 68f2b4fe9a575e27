// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
package import NetworkTypes

/// Builds one netlink request.
///
/// Only this type computes lengths; it patches them in afterwards.
/// An attribute above 65,535 bytes marks the message as overlong instead of trapping; the socket refuses to send such a
/// message.
package struct MessageWriter {
    /// The message so far; its length, sequence and port fields are filled in by ``finish(sequence:portID:)``.
    package private(set) var bytes: [UInt8]
    /// Whether an attribute was too long for its length field.
    package private(set) var isOverlong = false

    /// Begins a message with its header.
    package init(type: Int, flags: Int32) {
        bytes = []
        bytes.reserveCapacity(256)
        append(UInt32(0))
        append(UInt16(truncatingIfNeeded: type))
        append(UInt16(truncatingIfNeeded: flags | NLM_F_REQUEST))
        append(UInt32(0))
        append(UInt32(0))
    }

    /// Appends a byte.
    package mutating func append(_ value: UInt8) {
        bytes.append(value)
    }

    /// Appends a 16-bit number.
    package mutating func append(_ value: UInt16) {
        let little = value.littleEndian
        bytes.append(UInt8(truncatingIfNeeded: little))
        bytes.append(UInt8(truncatingIfNeeded: little >> 8))
    }

    /// Appends a 32-bit number.
    package mutating func append(_ value: UInt32) {
        let little = value.littleEndian
        for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: little >> shift)) }
    }

    /// Appends an attribute of one byte.
    package mutating func attribute(_ type: Int, _ value: UInt8) {
        attribute(type) { $0.append(value) }
    }

    /// Appends an attribute of a 32-bit number.
    package mutating func attribute(_ type: Int, _ value: UInt32) {
        attribute(type) { $0.append(value) }
    }

    /// Appends an attribute of bytes.
    package mutating func attribute(_ type: Int, _ value: [UInt8]) {
        attribute(type) { $0.bytes.append(contentsOf: value) }
    }

    /// Appends an attribute of an address.
    package mutating func attribute(_ type: Int, _ value: IPAddress) {
        attribute(type) { writer in
            switch value {
            case .v4(let address): writer.appendNetworkOrder(UInt64(address.rawValue), byteCount: 4)
            case .v6(let address):
                writer.appendNetworkOrder(address.high, byteCount: 8)
                writer.appendNetworkOrder(address.low, byteCount: 8)
            }
        }
    }

    private mutating func appendNetworkOrder(_ value: UInt64, byteCount: Int) {
        for index in (0..<byteCount).reversed() { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }

    /// Appends an attribute of a text that ends with NUL.
    package mutating func attribute(_ type: Int, text: String) {
        attribute(type, Array(text.utf8) + [0])
    }

    /// Appends an attribute whose payload is what `body` appends.
    package mutating func attribute(_ type: Int, _ body: (inout MessageWriter) -> Void) {
        let start = bytes.count
        append(UInt16(0))
        append(UInt16(truncatingIfNeeded: type))
        body(&self)
        patchLength(at: start)
        pad()
    }

    /// Appends a structure that begins with its own 16-bit length, such as `struct rtnexthop`.
    package mutating func lengthPrefixed(_ body: (inout MessageWriter) -> Void) {
        let start = bytes.count
        append(UInt16(0))
        body(&self)
        patchLength(at: start)
        pad()
    }

    /// The whole message with its length, number and port.
    ///
    /// - Parameters:
    ///   - sequence: The request's number.
    ///   - portID: Our port.
    ///   - acknowledgesSuccess: Whether the kernel should acknowledge success, if the request asks for that (`NLM_F_ACK`); it
    ///     always reports errors.
    /// - Returns: The message.
    package mutating func finish(sequence: UInt32, portID: UInt32, acknowledgesSuccess: Bool = true) -> [UInt8] {
        if !acknowledgesSuccess {
            let flag = UInt16(truncatingIfNeeded: NLM_F_ACK).littleEndian
            bytes[6] &= ~UInt8(truncatingIfNeeded: flag)
            bytes[7] &= ~UInt8(truncatingIfNeeded: flag >> 8)
        }
        patch(UInt32(truncatingIfNeeded: bytes.count), at: 0)
        patch(sequence, at: 8)
        patch(portID, at: 12)
        return bytes
    }

    private mutating func patchLength(at start: Int) {
        let length = bytes.count - start
        guard let value = UInt16(exactly: length) else {
            isOverlong = true
            return
        }
        let little = value.littleEndian
        bytes[start] = UInt8(truncatingIfNeeded: little)
        bytes[start + 1] = UInt8(truncatingIfNeeded: little >> 8)
    }

    private mutating func patch(_ value: UInt32, at offset: Int) {
        let little = value.littleEndian
        for index in 0..<4 { bytes[offset + index] = UInt8(truncatingIfNeeded: little >> UInt32(8 * index)) }
    }

    private mutating func pad() {
        while !bytes.count.isMultiple(of: 4) { bytes.append(0) }
    }
}
