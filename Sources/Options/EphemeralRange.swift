// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The ports that the kernel assigns by itself, which `all` leaves out.
public enum EphemeralRange {
    /// The file with the range: two decimal numbers (ip(7), `ip_local_port_range`).
    public static let path = "/proc/sys/net/ipv4/ip_local_port_range"

    /// The range if that file cannot be read: the dynamic ports of RFC 6335 §6.
    public static let fallback: ClosedRange<Port> = Port(49152)...Port(65535)

    /// Parses the contents of that file; nil unless it contains exactly two ports in order.
    public static func parse(_ text: some StringProtocol) -> ClosedRange<Port>? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let first = Port(words[0]), let last = Port(words[1]), first <= last else { return nil }
        return first...last
    }
}
