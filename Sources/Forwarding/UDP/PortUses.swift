// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc

/// How many UDP flows have the namespace's port as their host socket's, by port.
///
/// One port of the namespace is one port of the host towards all others. Yet bind(2) to a port goes through all sockets
/// that have that port already, to see whether they mind: 0.4 ms where there are 16,000 (docs/benchmarks.md). So
/// a port is kept by so many flows at a time, and those beyond get ports of their own, which the kernel finds at once.
@safe
struct PortUses: ~Copyable {
    /// The most flows with one port.
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

    /// Counts a flow; false, and nothing counted, if the port has as many as it may.
    mutating func add(_ port: UInt16) -> Bool {
        guard unsafe counts[Int(port)] < Self.most else { return false }
        unsafe counts[Int(port)] = unsafe counts[Int(port)] + 1
        return true
    }

    /// A flow has ended.
    mutating func remove(_ port: UInt16) {
        unsafe counts[Int(port)] = unsafe counts[Int(port)] - 1
    }
}
