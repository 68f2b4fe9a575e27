// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A TCP or UDP port number, in host order.
public struct Port: RawRepresentable, Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The number.
    public var rawValue: UInt16

    /// Makes a port from its number.
    @inlinable
    public init(rawValue: UInt16) {
        self.rawValue = rawValue
    }

    /// Makes a port from its number.
    @inlinable
    public init(_ number: UInt16) {
        rawValue = number
    }

    /// Parses decimal digits, 0 to 65535, and nothing else.
    public init?(_ text: some StringProtocol) {
        guard !text.isEmpty, text.allSatisfy(\.isASCIIDigit), let number = UInt16(text) else { return nil }
        rawValue = number
    }

    /// The decimal number.
    public var description: String { String(rawValue) }

    /// Orders by number.
    public static func < (a: Port, b: Port) -> Bool { a.rawValue < b.rawValue }
}
