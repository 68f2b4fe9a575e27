// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The messages of a virtual machine's program. `VhostUserSession` decides which are valid and keeps their numbers; this
// file applies them to memory, rings and descriptors. An invalid message is answered with an error if its sender waits
// for an answer. Otherwise the client is dropped, because it assumes that its message was applied.
//
// syscalls: running(data-path): sendto

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage
internal import VirtualMachine

extension VhostUserLink {
    /// Answers the messages that have come.
    func answerMessages() {
        // The event is repeated for the rest.
        for _ in 0..<Size.messages {
            guard number >= 0 else { return }
            switch channel.next(from: number, rings: RingNumber.count) {
            case .incomplete: return
            case .ended: return dropClient()
            case .broken:
                counters.badMessages += 1
                return dropClient()
            case .message(let header, let message, let descriptors):
                if !handle(message, header, descriptors: descriptors) { return dropClient() }
            }
        }
    }

    /// Applies a message and answers it; false if the client must be dropped.
    private func handle(_ message: VhostUserMessage, _ header: VhostUserHeader, descriptors: Int) -> Bool {
        // The session must know the positions of the rings, because a message may stop them or ask for them.
        noteBases()
        switch session.handle(message, header: header, descriptors: descriptors) {
        case .refused(let answer):
            counters.refusedMessages += 1
            guard let answer else { return false }
            return send(answer)
        case .accepted(let answer):
            guard adopt(message) else { return false }
            adoptRings()
            return answer.map(send) ?? true
        }
    }

    private func noteBases() {
        if let base = toGuest.queue?.nextAvailable { session.note(base: base, of: RingNumber.receive) }
        if let base = fromGuest.queue?.nextAvailable { session.note(base: base, of: RingNumber.transmit) }
    }

    private func send(_ answer: VhostUserAnswer) -> Bool {
        let bytes = answer.bytes
        let socket = number
        let flags = CInt(MSG_DONTWAIT | MSG_NOSIGNAL)
        // A client that waits for an answer has room for its twenty bytes.
        return transferring { unsafe Glibc.send(socket, bytes, bytes.count, flags) } == .bytes(bytes.count)
    }

    /// Applies an accepted message; false if that is impossible.
    private func adopt(_ message: VhostUserMessage) -> Bool {
        switch message {
        case .setFeatures: adoptFeatures()
        case .setMemoryTable(let table): return adoptMemory(table)
        case .setRingAddresses(let ring, _): stop(ring)
        case .getRingBase(let ring):
            stop(ring)
            unwatchKick(of: ring)
            withRing(ring) { $0.kick.close() }
        case .resetOwner:
            for ring in 0..<RingNumber.count { stop(ring) }
            unwatchKicks()
            toGuest = VhostUserRing()
            fromGuest = VhostUserRing()
            adoptFeatures()
        case .setRingKick(let ring, _): return adoptKick(of: ring)
        case .setRingCall(let ring, let hasDescriptor):
            guard hasDescriptor else {
                withRing(ring) { $0.closeCall() }
                return true
            }
            guard let descriptor = channel.takeDescriptor(0) else { return false }
            return ring == RingNumber.receive ? toGuest.setCall(descriptor) : fromGuest.setCall(descriptor)
        case .setRingError(let ring, let hasDescriptor):
            guard hasDescriptor else {
                withRing(ring) { $0.error.close() }
                return true
            }
            guard let descriptor = channel.takeDescriptor(0) else { return false }
            return ring == RingNumber.receive ? toGuest.error.take(descriptor) : fromGuest.error.take(descriptor)
        default: break
        }
        return true
    }

    private func withRing(_ ring: Int, _ body: (inout VhostUserRing) -> Void) {
        if ring == RingNumber.receive { body(&toGuest) } else { body(&fromGuest) }
    }

    // MARK: Memory

    /// Maps the regions of a table in place of the present ones; running rings are set up again in them.
    private func adoptMemory(_ table: [VhostUserRegion]) -> Bool {
        var mapped = GuestRegions()
        for (position, region) in table.enumerated() {
            guard let file = channel.takeDescriptor(position) else { return false }
            // The mapping keeps the file.
            do throws(SystemCallError) { try mapped.map(region, of: file.rawValue) } catch {
                counters.unmappableMemory += 1
                return false
            }
        }
        for ring in 0..<RingNumber.count { stop(ring) }
        regions = consume mapped
        return true
    }

    // MARK: Rings

    /// Starts and stops rings as the session says.
    private func adoptRings() {
        for ring in 0..<RingNumber.count {
            let state = session.rings[ring]
            let isRunning = ring == RingNumber.receive ? toGuest.isRunning : fromGuest.isRunning
            guard state.isRunning, let addresses = state.addresses else {
                stop(ring)
                continue
            }
            guard !isRunning else { continue }
            let queue: Virtqueue
            do throws(VirtqueueFault) {
                queue = try Virtqueue(
                    size: state.size, addresses: addresses, base: state.base, memory: regions.memory)
            } catch {
                // The memory of the ring may come with a later table.
                counters.brokenRings += 1
                continue
            }
            withRing(ring) { $0.start(queue) }
            if ring == RingNumber.transmit { mayReceive = true } else { noteDriver() }
        }
    }

    /// Stops a ring if it runs; frames that wait for its buffers are dropped.
    private func stop(_ ring: Int) {
        withRing(ring) { $0.stop() }
        if ring == RingNumber.receive { waiting.removeAll() } else { mayReceive = false }
    }

    // MARK: Kicks

    private func adoptKick(of ring: Int) -> Bool {
        unwatchKick(of: ring)
        guard let descriptor = channel.takeDescriptor(0) else { return false }
        let isTaken = ring == RingNumber.receive ? toGuest.kick.take(descriptor) : fromGuest.kick.take(descriptor)
        guard isTaken, let loop else { return isTaken }
        let number = ring == RingNumber.receive ? toGuest.kick.number : fromGuest.kick.number
        do {
            try loop.add(
                FileDescriptor(rawValue: number), for: [.readable, .edgeTriggered],
                token: token(Source.kicks + UInt32(truncatingIfNeeded: ring)))
            return true
        } catch {
            return false
        }
    }

    /// Ends the events of both rings' kicks.
    func unwatchKicks() {
        for ring in 0..<RingNumber.count { unwatchKick(of: ring) }
    }

    private func unwatchKick(of ring: Int) {
        let number = ring == RingNumber.receive ? toGuest.kick.number : fromGuest.kick.number
        // The guest's program holds the descriptor, too; then closing ours does not end its events.
        if number >= 0 { loop?.remove(FileDescriptor(rawValue: number)) }
    }
}
