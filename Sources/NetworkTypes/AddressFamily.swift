// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An Internet address family.
public enum AddressFamily: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    /// IPv4 (`AF_INET`).
    case v4 = "IPv4"
    /// IPv6 (`AF_INET6`).
    case v6 = "IPv6"

    /// Whether this is IPv4.
    @inlinable public var isIPv4: Bool {
        switch self {
        case .v4: true
        case .v6: false
        }
    }

    /// The length of an address in bits.
    public var addressBitCount: Int { self == .v4 ? 32 : 128 }

    /// "IPv4" or "IPv6".
    public var description: String { rawValue }
}
