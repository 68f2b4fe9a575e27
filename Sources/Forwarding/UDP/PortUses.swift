// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// The number of UDP flows whose host socket has the namespace's port, by port.
///
/// All flows from one port of the namespace share one port of the host. But bind(2) to a port examines all sockets that
/// have that port already: 0.4 ms for 16,000 of them (docs/benchmarks.md). So a limited number of flows share a port,
/// and further ones get ports of their own, which the kernel finds at once.
@safe
struct PortUses: ~Copyable {
    /// The greatest number of flows with one port.
    static let most: UInt16 = 1024

    private let counts: UnsafeMutablePointer<UInt16>

    init() {
        // calloc, because fresh pages are zero without being touched.
        guard let memory = unsafe calloc(65536, MemoryLayout<UInt16>.size) else {
            preconditionFailure("no memory for the uses of ports")
        }
        unsafe counts = memory.assumingMemoryBound(to: UInt16.self)
    }

    deinit { unsafe free(counts) }

    /// Counts a flow; false, and nothing is counted, if the port has reached its limit.
    mutating func add(_ port: UInt16) -> Bool {
        guard unsafe counts[Int(port)] < Self.most else { return false }
        unsafe counts[Int(port)] = unsafe counts[Int(port)] + 1
        return true
    }

    /// Counts the end of a flow.
    mutating func remove(_ port: UInt16) {
        unsafe counts[Int(port)] = unsafe counts[Int(port)] - 1
    }
}
