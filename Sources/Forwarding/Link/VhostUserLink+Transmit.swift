// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Frames to the guest: each is copied into as many of the guest's buffers as it needs, or waits until there are enough.

internal import CLinux
internal import Glibc
internal import VirtualMachine
internal import Wire

extension VhostUserLink {
    @inline(never)
    var canTransmit: Bool {
        guard number >= 0 else { return true }
        guard toGuest.isRunning, waiting.isEmpty else { return false }
        if toGuest.hasAvailable {
            toGuest.wantKicks(false)
            return true
        }
        toGuest.wantKicks(true)
        return toGuest.hasAvailable
    }

    @inline(never)
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool {
        var piece = unsafe iovec(iov_base: frame, iov_len: count)
        return unsafe send(&piece, count: 1, header: header)
    }

    @inline(never)
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        unsafe send(pieces, count: count, header: header)
    }

    /// Delivers or queues a frame; false if neither is possible.
    private func send(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        guard number >= 0, toGuest.isRunning else {
            counters.withoutGuest += 1
            return false
        }
        if waiting.isEmpty {
            switch unsafe deliver(pieces, count: count, header: header) {
            case .done: return true
            case .dropped: return false
            case .noBuffers: counters.withoutBuffers += 1
            }
        }
        unsafe putHeader(header, before: pieces)
        guard unsafe waiting.append(pieces, count: count) else {
            counters.queueFull += 1
            return false
        }
        deliverWaiting()
        return true
    }

    private enum Delivery {
        case done
        case noBuffers
        case dropped
    }

    /// Delivers queued frames as long as there are buffers.
    func deliverWaiting() {
        while let frame = unsafe waiting.first, let start = frame.baseAddress {
            let length = VirtioNetHeader.length
            guard let header = try? VirtioNetHeader(unsafe DataPath.bytes(start, length)) else { return }
            var piece = unsafe iovec(iov_base: start + length, iov_len: frame.count - length)
            let delivery = unsafe deliver(&piece, count: 1, header: header)
            if delivery == .noBuffers {
                // The guest does not kick for buffers that it provided before it saw this: look once more.
                if toGuest.wantsKicks { return }
                toGuest.wantKicks(true)
            } else {
                waiting.removeFirst()
            }
        }
    }

    /// Copies a frame into the guest's buffers.
    private func deliver(
        _ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader
    ) -> Delivery {
        guard !toGuest.isBroken, let mark = toGuest.mark else { return .dropped }
        do throws(VirtqueueFault) {
            let delivery = try unsafe fill(pieces, count: count, header: header)
            if delivery != .done { toGuest.rewind(to: mark) } else { toGuest.publish() }
            return delivery
        } catch {
            toGuest.rewind(to: mark)
            toGuest.fail(error)
            note(error, on: toGuest)
            return .dropped
        }
    }

    /// Copies a frame into buffers, which are marked as used but not shown to the guest yet.
    private func fill(
        _ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader
    ) throws(VirtqueueFault) -> Delivery {
        guard try toGuest.next(into: &chain, memory: regions.memory) else { return .noBuffers }
        guard chain.writableBytes > frameHeader else { throw .noRoom }
        var span = unsafe MutableSpan(
            _unsafeStart: self.header.assumingMemoryBound(to: UInt8.self), count: Size.header)
        header.write(into: &span)
        // One buffer; if there are more, their number is written at the end.
        span[10] = 1
        span[11] = 0
        var written = unsafe chain.append(UnsafeRawBufferPointer(start: self.header, count: frameHeader))
        var buffers = 1
        var descriptors = chain.descriptorCount
        let low = unsafe chain.writablePlace(at: 10)
        let high = unsafe chain.writablePlace(at: 11)
        for position in 0..<count {
            var start = unsafe UnsafeRawPointer(pieces[position].iov_base)
            var left = unsafe pieces[position].iov_len
            while left > 0, let from = unsafe start {
                let done = unsafe chain.append(UnsafeRawBufferPointer(start: from, count: left))
                written += done
                left -= done
                unsafe start = from + done
                if left == 0 { break }
                // This buffer is full.
                guard mergesBuffers else {
                    counters.tooLong += 1
                    return .dropped
                }
                toGuest.use(chain.head, written: written)
                guard try toGuest.next(into: &chain, memory: regions.memory) else { return .noBuffers }
                guard chain.writableBytes > 0 else { throw .noRoom }
                buffers += 1
                written = 0
                descriptors += chain.descriptorCount
                guard descriptors <= Size.descriptors else { throw .chainTooLong }
            }
        }
        toGuest.use(chain.head, written: written)
        if buffers > 1 {
            unsafe low?.storeBytes(of: UInt8(truncatingIfNeeded: buffers), as: UInt8.self)
            unsafe high?.storeBytes(of: UInt8(truncatingIfNeeded: buffers >> 8), as: UInt8.self)
        }
        return .done
    }
}
