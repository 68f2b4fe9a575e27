// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The secret that a client gets with its lease and that signs its reconfiguration messages (RFC 6704, RFC 8415 §20.4).
///
/// The authentication option has one layout in both protocols: protocol 3, algorithm 1 (HMAC-MD5), replay detection 0,
/// an increasing number of 64 bits, then a type and 16 bytes: the key (1) or the digest (2).
public struct ReconfigurationKey: Hashable, Sendable {
    private static let header: [UInt8] = [3, 1, 0]
    private static let keyType: UInt8 = 1
    private static let digestType: UInt8 = 2
    /// The bytes of key and digest.
    static let length = 16

    private let key: [UInt8]
    private var counter: UInt64

    /// Makes a key.
    ///
    /// - Parameters:
    ///   - random: two unpredictable numbers.
    ///   - counter: the first number of the replay detection: greater than any that was used before, as the time of day
    ///     is.
    public init(random: (UInt64, UInt64), counter: UInt64) {
        key = Self.bytes(random.0) + Self.bytes(random.1)
        self.counter = counter
    }

    private static func bytes(_ value: UInt64) -> [UInt8] {
        stride(from: 56, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> UInt64($0)) }
    }

    /// The option's data that gives the key to a client.
    mutating func offer() -> [UInt8] {
        counter &+= 1
        return Self.header + Self.bytes(counter) + [Self.keyType] + key
    }

    /// The option's data in a message that will be signed: with a digest of zeros.
    mutating func unsigned() -> [UInt8] {
        counter &+= 1
        return Self.header + Self.bytes(counter) + [Self.digestType] + [UInt8](repeating: 0, count: Self.length)
    }

    /// Puts the digest of a message into the option's data.
    ///
    /// - Parameters:
    ///   - option: the result of ``unsigned()``.
    ///   - message: the whole message with that option.
    /// - Returns: the option's data.
    func signed(_ option: [UInt8], of message: [UInt8]) -> [UInt8] {
        option.dropLast(Self.length) + MessageDigest.hmac(message, key: key)
    }
}
