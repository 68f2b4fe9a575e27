// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(ports): close fcntl pipe2

internal import CLinux
internal import Glibc

/// A pipe through which bytes are moved without being copied to the process.
struct SplicePipe {
    var reading: CInt
    var writing: CInt
}

/// Empty pipes.
///
/// A connection has a pipe only while bytes of it are in transit, so ten thousand idle connections have none.
struct PipePool {
    /// The wanted capacity of a pipe in bytes: 1.2 to 1.4 times as fast as 256 KiB (docs/benchmarks.md).
    static let size: CInt = 1024 * 1024
    /// The capacity where that is refused.
    ///
    /// By default the kernel gives a user 64 MiB of pipes in all (pipe(7), `pipe-user-pages-soft`).
    private static let modestSize: CInt = 256 * 1024
    /// The greatest number of empty pipes that are kept, since other instances need part of the user's share.
    private static let spares = 2

    private var free: [SplicePipe] = []

    /// An empty pipe; nil without descriptors.
    mutating func take() -> SplicePipe? {
        if let pipe = free.popLast() { return pipe }
        var ends: [2 of CInt] = .init(repeating: -1)
        let result = unsafe withUnsafeMutableBytes(of: &ends) { bytes in
            unsafe tapas_pipe(bytes.baseAddress?.assumingMemoryBound(to: CInt.self), O_NONBLOCK | O_CLOEXEC)
        }
        guard result == 0 else { return nil }
        // If even that is refused, the small pipe is slower, but works.
        if tapas_pipe_resize(ends[1], Self.size) < 0 { tapas_pipe_resize(ends[1], Self.modestSize) }
        return SplicePipe(reading: ends[0], writing: ends[1])
    }

    /// Takes back an empty pipe.
    mutating func give(_ pipe: SplicePipe) {
        if free.count < Self.spares { free.append(pipe) } else { Self.close(pipe) }
    }

    static func close(_ pipe: SplicePipe) {
        Glibc.close(pipe.reading)
        Glibc.close(pipe.writing)
    }

    mutating func closeAll() {
        for pipe in free { Self.close(pipe) }
        free = []
    }
}
