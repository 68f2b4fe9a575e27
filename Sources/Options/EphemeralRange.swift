// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// The ports that the kernel gives to sockets of its own choice, which `all` leaves alone.
public enum EphemeralRange {
    /// The file that tells the range: two decimal numbers (ip(7), `ip_local_port_range`).
    public static let path = "/proc/sys/net/ipv4/ip_local_port_range"

    /// The range where that file cannot be read: the dynamic ports of RFC 6335 §6.
    public static let fallback: ClosedRange<Port> = Port(49152)...Port(65535)

    /// Parses the content of that file; nil unless it holds exactly two ports in order.
    public static func parse(_ text: some StringProtocol) -> ClosedRange<Port>? {
        let words = text.split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let first = Port(words[0]), let last = Port(words[1]), first <= last else { return nil }
        return first...last
    }
}
