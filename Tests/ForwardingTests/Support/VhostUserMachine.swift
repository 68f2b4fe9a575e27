// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import Testing
import Wire

@testable import Forwarding

/// A vhost-user link without a data path, and the virtual machine at its other end.
final class VhostUserMachine {
    let link: VhostUserLink
    let peer: VhostUserPeer
    private var arena = FrameArena()
    /// How often the machine was found to be gone.
    private(set) var lost = 0
    /// Frames of the guest that were none.
    private(set) var truncated = 0

    init(ringSize: Int = 256, bufferSize: Int = 1600, queue: Int = VhostUserLink.Size.queue) throws {
        var ends: [CInt] = [-1, -1]
        try #require(socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
        let link = VhostUserLink(client: OwnedFileDescriptor(taking: ends[1]), queue: queue)
        self.link = link
        peer = try VhostUserPeer(
            OwnedFileDescriptor(taking: ends[0]), ringSize: ringSize, bufferSize: bufferSize)
        peer.turn = { _, ring in
            let kick = EventToken(kind: TokenKind.link, index: VhostUserLink.Source.kicks + UInt32(ring ?? 0))
            link.ready(ring == nil ? link.clientToken : kick, .readable)
        }
    }

    /// What the data path would receive in one turn, in batches of at most `most` frames.
    func receive(batch most: Int = 256, turns: Int = 100) -> [(frame: [UInt8], header: VirtioNetHeader)] {
        var frames: [(frame: [UInt8], header: VirtioNetHeader)] = []
        var left = turns
        repeat {
            arena.reset()
            var given: [(UnsafeMutableRawPointer, Int, VirtioNetHeader)] = []
            var isEmpty = false
            var count = 0
            while count < most, !arena.isFull, !isEmpty {
                count += 1
                switch link.receive(into: &arena) {
                case .frame(let start, let count, let header): given.append((start, count, header))
                case .truncated: truncated += 1
                case .empty, .gone: isEmpty = true
                }
            }
            // Only now, as the data path sends payload from there at the end of a batch.
            frames += given.map { (Array(UnsafeRawBufferPointer(start: $0.0, count: $0.1)), $0.2) }
            if link.takeLostGuest() { lost += 1 }
            left -= 1
        } while link.hasMore && left > 0
        link.flush()
        return frames
    }

    /// Has the link send a frame, in `pieces` pieces.
    func transmit(_ frame: [UInt8], header: VirtioNetHeader = VirtioNetHeader(), pieces: Int = 1) -> Bool {
        ForwardingTests.transmit(frame, over: link, header: header, pieces: pieces)
    }
}
