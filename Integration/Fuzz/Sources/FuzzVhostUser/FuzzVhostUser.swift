// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import VirtualMachine

/// Interprets the input as the actions of a virtual machine's program and its guest.
///
/// It is a list of records: a byte selects the action, and its bytes follow. Every accepted table of regions maps
/// memory of 64 KiB, into which the guest writes.
///
/// Nothing may trap, and no byte before or behind the memory may change.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = [UInt8](UnsafeBufferPointer(start: start, count: count))
    var machine = Machine()
    machine.play(input)
    return 0
}

private let size = 1 << 16
private let guardSize = 4096
nonisolated(unsafe) private let storage =
    UnsafeMutableRawPointer.allocate(byteCount: size + 2 * guardSize, alignment: 4096)
nonisolated(unsafe) private let scratch =
    UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 17, alignment: 16)

private struct Machine: ~Copyable {
    var session = VhostUserSession()
    var memory = GuestMemory()
    var queues: [Virtqueue?] = [nil, nil]

    mutating func play(_ input: [UInt8]) {
        storage.initializeMemory(as: UInt8.self, repeating: 0x5A, count: size + 2 * guardSize)
        (storage + guardSize).initializeMemory(as: UInt8.self, repeating: 0, count: size)
        var position = 0
        while position < input.count {
            let kind = input[position]
            position += 1
            if kind & 3 == 0 {
                // A message; the upper bits are the number of descriptors that come with it.
                guard input.count - position >= VhostUserHeader.length else { break }
                let bytes = Array(input[position..<(position + VhostUserHeader.length)])
                position += VhostUserHeader.length
                guard let header = try? VhostUserHeader(bytes.span.bytes) else { break }
                guard input.count - position >= header.size else { break }
                let payload = Array(input[position..<(position + header.size)])
                position += header.size
                guard let message = try? VhostUserMessage(header, payload: payload.span.bytes, rings: 2) else { break }
                handle(message, header, descriptors: Int(kind >> 4))
            } else if kind & 3 == 1 {
                // The guest writes: a position, a length, bytes.
                guard input.count - position >= 3 else { break }
                let place = Int(input[position]) << 8 | Int(input[position + 1])
                let length = min(Int(input[position + 2]), input.count - position - 3, size - place)
                let bytes = input[(position + 3)..<(position + 3 + length)]
                let target = UnsafeMutableRawBufferPointer(start: storage + guardSize + place, count: length)
                bytes.withUnsafeBytes { target.copyMemory(from: $0) }
                position += 3 + length
            } else {
                take(Int(kind >> 2) & 1, writes: kind & 3 == 3)
            }
        }
        for offset in 0..<guardSize {
            precondition(storage.load(fromByteOffset: offset, as: UInt8.self) == 0x5A)
            precondition(storage.load(fromByteOffset: guardSize + size + offset, as: UInt8.self) == 0x5A)
        }
    }

    private mutating func handle(_ message: VhostUserMessage, _ header: VhostUserHeader, descriptors: Int) {
        if case .getRingBase(let ring) = message, let queue = queues[ring] {
            session.note(base: queue.nextAvailable, of: ring)
        }
        // An input need not give the right number.
        let descriptors = descriptors == 15 ? message.descriptorCount : descriptors
        let verdict = session.handle(message, header: header, descriptors: descriptors)
        guard case .accepted(let answer) = verdict else { return }
        precondition(answer.map { $0.bytes.count == 20 } ?? true)
        precondition(session.features & ~session.offered == 0)
        switch message {
        case .setMemoryTable(let table):
            memory = GuestMemory()
            for region in table {
                // A region that does not fit into the file is not mapped.
                let (end, isRound) = region.mappingOffset.addingReportingOverflow(region.size)
                guard !isRound, end <= UInt64(size) else { continue }
                precondition(memory.add(region, at: storage + guardSize + Int(region.mappingOffset)))
            }
            queues = [nil, nil]
        case .resetOwner: queues = [nil, nil]
        default: break
        }
        for ring in 0..<2 {
            let state = session.rings[ring]
            guard state.isRunning, let addresses = state.addresses else {
                queues[ring] = nil
                continue
            }
            guard queues[ring] == nil else { continue }
            queues[ring] = try? Virtqueue(size: state.size, addresses: addresses, base: state.base, memory: memory)
        }
    }

    private mutating func take(_ ring: Int, writes: Bool) {
        guard var queue = queues[ring] else { return }
        var chain = VirtqueueChain()
        if writes { fill(&queue, &chain) } else { drain(&queue, &chain) }
        _ = queue.wantsCall
        queue.publish()
        precondition(!queue.publish(), "everything was published")
        queues[ring] = queue
    }

    /// As the link does with frames of the guest.
    private func drain(_ queue: inout Virtqueue, _ chain: inout VirtqueueChain) {
        var chains = 0
        while (try? queue.next(into: &chain, memory: memory)) == true {
            chains += 1
            precondition(chains <= 2 * queue.size, "a ring has no more chains than entries")
            precondition(chain.descriptorCount <= VirtqueueChain.mostPieces)
            let count = chain.read(into: scratch)
            precondition(count == min(chain.readableBytes, scratch.count))
            queue.use(chain.head, written: 0)
            // Writing may have changed the ring itself.
            if chains == queue.size { break }
        }
        queue.wantKicks(true)
        precondition(queue.fault == nil || !queue.hasAvailable)
    }

    /// As the link does with a frame of 65,000 bytes for the guest: all of it, or nothing.
    private func fill(_ queue: inout Virtqueue, _ chain: inout VirtqueueChain) {
        let mark = queue.mark
        let first = queue.nextAvailable
        var left = 65_000
        var descriptors = 0
        while left > 0, (try? queue.next(into: &chain, memory: memory)) == true {
            descriptors += chain.descriptorCount
            guard chain.writableBytes > 0, descriptors <= 2048 else {
                queue.fail(.noRoom)
                break
            }
            precondition(chain.writablePlace(at: chain.writableBytes) == nil)
            precondition(chain.writablePlace(at: chain.writableBytes - 1) != nil)
            let bytes = UnsafeRawBufferPointer(rebasing: scratch[..<left])
            // In two pieces.
            let half = chain.append(UnsafeRawBufferPointer(rebasing: bytes[..<(left / 2)]))
            let count = half < left / 2 ? half : half + chain.append(UnsafeRawBufferPointer(rebasing: bytes[half...]))
            precondition(count == min(left, chain.writableBytes))
            left -= count
            queue.use(chain.head, written: UInt32(count))
        }
        guard left > 0 else { return }
        queue.rewind(to: mark)
        precondition(queue.nextAvailable == first)
        precondition(!queue.publish(), "what was taken back was never seen")
    }
}
