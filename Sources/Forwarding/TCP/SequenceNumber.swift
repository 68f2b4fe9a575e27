// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Compares TCP sequence numbers, which wrap around (RFC 9293 §3.4); correct while they are less than 2^31 apart.
@inline(__always)
func isBefore(_ a: UInt32, _ b: UInt32) -> Bool {
    Int32(bitPattern: a &- b) < 0
}

/// Whether `a` is after `b`.
@inline(__always)
func isAfter(_ a: UInt32, _ b: UInt32) -> Bool {
    Int32(bitPattern: a &- b) > 0
}
