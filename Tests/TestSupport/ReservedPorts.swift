// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import Synchronization

/// Port numbers that no other test, of this or of another test process, uses.
///
/// Theory of operation. The numbers from 15,000 to 30,999, below those that the kernel gives away itself, are cut into
/// blocks of 1,000. A process owns a block while it holds an abstract UNIX socket of the block's name: those names live
/// in the network namespace, as ports do, and end with the process. Within its blocks a process gives each number once,
/// and begins again only when no other block is left.
public enum ReservedPorts {
    private static let blocks: Range<UInt16> = 15..<31

    private struct State {
        /// Blocks that are ours, the one in use last.
        var owned: [UInt16] = []
        /// The next number to give.
        var next: UInt32 = 0
        /// How many numbers of the block in use are left.
        var left: UInt32 = 0
    }
    private static let state = Mutex(State())

    /// Numbers that no other test uses.
    ///
    /// - Parameter count: How many in a row, at most 1,000.
    /// - Returns: The first; nil if other processes have all blocks.
    public static func next(count: UInt16 = 1) -> UInt16? {
        precondition(count <= 1000)
        return state.withLock { state in
            if state.left < UInt32(count) {
                if let block = newBlock() {
                    state.owned.append(block)
                } else if state.owned.isEmpty {
                    return nil
                } else {
                    // From the beginning of the block that was used first: what was given there is long closed.
                    state.owned.append(state.owned.removeFirst())
                }
                state.next = UInt32(state.owned[state.owned.count - 1]) * 1000
                state.left = 1000
            }
            defer {
                state.next += UInt32(count)
                state.left -= UInt32(count)
            }
            return UInt16(state.next)
        }
    }

    /// A block that no process has; it is ours until we end.
    private static func newBlock() -> UInt16? {
        blocks.shuffled().first { block in
            let number = socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
            guard number >= 0 else { return false }
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            let name = Array("tapas-test-ports-\(block)".utf8)
            // A name that begins with a zero byte is abstract (unix(7)).
            withUnsafeMutableBytes(of: &address.sun_path) { path in
                path[0] = 0
                for (index, byte) in name.enumerated() { path[index + 1] = byte }
            }
            let length = MemoryLayout<sa_family_t>.size + 1 + name.count
            let result = withUnsafePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(number, $0, socklen_t(length)) }
            }
            if result != 0 { close(number) }
            return result == 0
        }
    }
}
