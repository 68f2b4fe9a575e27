// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// When a host socket accepts less than the namespace has sent, the rest must not be discarded: only a retransmission
// time-out would make the namespace send it again (decision 0004). It is stored here, in chunks of 16 KiB from one
// pool, chained for each flow.
//
// The pool is shared. While few flows have a backlog, each may store as much as its greatest window. The more there
// are, the smaller the share of each (`share`). If a flow has passed on much more than the buffers of two kernels hold,
// its server reads, and it may have more than its share (`allowance`). So servers that never read occupy only part of
// the pool, however many there are, and an upload to a server that reads keeps its window. The share is enforced in two
// ways: the window that a flow offers follows it, and bytes far beyond it, which were sent because more had been offered
// before, count as never received.
//
// Memory is allocated from the system in slabs of 64 chunks when they are first needed, and freed when a slab is empty.
//
// syscalls: running(data-path): sendmsg

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage

/// The memory for bytes that host sockets have not accepted yet.
@safe
struct BacklogPool: ~Copyable {
    static let chunkSize = 16384
    static let none: Int32 = -1
    /// The number of chunks of a slab, one bit each.
    private static let slabChunks = 64
    private static let slabSize = slabChunks * chunkSize
    /// The number of empty slabs that are kept, so that a backlog that comes and goes needs no system calls.
    private static let spareSlabs = 2
    /// The greatest number of chunks that one call writes.
    private static let vectors = 16
    /// Up to this number of flows with a backlog, each may have the whole window.
    static let generousFlows = 32
    /// If a flow has passed on this many bytes, its server reads.
    ///
    /// The kernels of both ends hold less for a server that does not (`net.ipv4.tcp_wmem` is at most 4 MiB, and a
    /// receive buffer grows only for a program that reads).
    private static let proof: UInt32 = 8 << 20

    /// A chunk: bytes `start..<end` of its memory are waiting.
    private struct Chunk {
        var next: Int32
        var start: Int32
        var end: Int32
    }

    /// A slab: its memory, nil while it has none, and a bit for each chunk that is free.
    @safe
    private struct Slab {
        var memory: UnsafeMutableRawPointer?
        var free: UInt64
    }

    /// The number of chunks.
    let capacity: Int
    /// The number of chunks in use.
    private(set) var used = 0
    /// The number of flows with a backlog.
    private(set) var flows: UInt32 = 0
    /// The number of slabs that have memory.
    private(set) var slabsInMemory = 0

    private let slabs: UnsafeMutablePointer<Slab>
    private let slabCount: Int
    private let chunks: UnsafeMutablePointer<Chunk>
    /// No slab below this one has a free chunk.
    private var lowest = 0
    private var emptySlabs = 0

    init(capacity: Int) {
        self.capacity = capacity
        slabCount = (capacity + Self.slabChunks - 1) / Self.slabChunks
        unsafe slabs = .allocate(capacity: slabCount)
        unsafe chunks = .allocate(capacity: capacity)
        for number in 0..<slabCount {
            let free = Self.allFree(number, of: capacity)
            unsafe (slabs + number).initialize(to: Slab(memory: nil, free: free))
        }
    }

    deinit {
        for number in 0..<slabCount {
            if let memory = unsafe slabs[number].memory { unsafe _ = munmap(memory, Self.slabSize) }
        }
        unsafe slabs.deallocate()
        unsafe chunks.deallocate()
    }

    private static func allFree(_ slab: Int, of capacity: Int) -> UInt64 {
        let count = min(capacity - slab * slabChunks, slabChunks)
        return count == slabChunks ? .max : (1 << UInt64(count)) - 1
    }

    /// The number of bytes that can still be stored.
    var room: Int { (capacity - used) * Self.chunkSize }

    // MARK: Shares

    /// The backlog that each flow may have, in bytes, when more than ``generousFlows`` have one.
    var share: UInt32 {
        let bytes = UInt32(clamping: capacity * Self.chunkSize / 8) / max(flows, 1)
        return min(max(bytes, UInt32(Self.chunkSize)), TCPWindow.most)
    }

    /// The backlog that a flow may have, in bytes.
    @inline(__always)
    func allowance(of flow: Flow) -> UInt32 {
        if flows <= Self.generousFlows {
            // A small pool, as in tests, is exhausted by few flows; then all offer less.
            return room < capacity * Self.chunkSize / 2 ? 65536 : TCPWindow.most
        }
        return crowdedAllowance(passedOn: flow.passedOn)
    }

    /// What a flow may really keep as backlog, in bytes: half as much again.
    ///
    /// The allowance shrinks with each flow that gets a backlog, the flow's own included, and the window is rounded up; what
    /// was offered before is on its way. A byte of it that is not taken costs the sender a retransmission time-out.
    func most(of flow: Flow) -> UInt32 {
        let allowance = allowance(of: flow)
        return allowance + allowance / 2
    }

    @inline(never)
    private func crowdedAllowance(passedOn: UInt32) -> UInt32 {
        if room < capacity * Self.chunkSize / 4 { return share }
        return passedOn >= Self.proof ? TCPWindow.most : share
    }

    // MARK: Chunks

    private func memory(of chunk: Int) -> UnsafeMutableRawPointer {
        guard let start = unsafe slabs[chunk / Self.slabChunks].memory else {
            preconditionFailure("a chunk in use has no memory")
        }
        return unsafe start + chunk % Self.slabChunks * Self.chunkSize
    }

    private mutating func allocate() -> Int32? {
        while lowest < slabCount, unsafe slabs[lowest].free == 0 { lowest += 1 }
        guard lowest < slabCount else { return nil }
        let isEmpty = unsafe slabs[lowest].free == Self.allFree(lowest, of: capacity)
        if unsafe slabs[lowest].memory == nil {
            let memory = unsafe mmap(
                nil, Self.slabSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            // A limit of the address space refused it: as if the pool were exhausted.
            guard let memory = unsafe memory, unsafe memory != MAP_FAILED else { return nil }
            unsafe slabs[lowest].memory = unsafe memory
            slabsInMemory += 1
        } else if isEmpty {
            emptySlabs -= 1
        }
        let bit = unsafe slabs[lowest].free.trailingZeroBitCount
        unsafe slabs[lowest].free = unsafe slabs[lowest].free & ~(1 << UInt64(bit))
        let index = Int32(lowest * Self.slabChunks + bit)
        unsafe (chunks + Int(index)).initialize(to: Chunk(next: Self.none, start: 0, end: 0))
        used += 1
        return index
    }

    /// Whether a chunk is full, or does not exist.
    private func isFull(_ index: Int32) -> Bool {
        guard index != Self.none else { return true }
        return unsafe chunks[Int(index)].end == Int32(Self.chunkSize)
    }

    private mutating func free(_ index: Int32) {
        let slab = Int(index) / Self.slabChunks
        unsafe slabs[slab].free = unsafe slabs[slab].free | 1 << UInt64(Int(index) % Self.slabChunks)
        lowest = min(lowest, slab)
        used -= 1
        guard unsafe slabs[slab].free == Self.allFree(slab, of: capacity) else { return }
        guard emptySlabs == Self.spareSlabs, let memory = unsafe slabs[slab].memory else {
            emptySlabs += 1
            return
        }
        unsafe _ = munmap(memory, Self.slabSize)
        unsafe slabs[slab].memory = nil
        slabsInMemory -= 1
    }

    // MARK: Backlogs

    /// Appends bytes to a flow's backlog.
    ///
    /// - Returns: The number of bytes stored, which is less than given only if the pool is exhausted.
    mutating func append(_ bytes: UnsafeRawBufferPointer, to flow: inout Flow) -> Int {
        var taken = 0
        while taken < bytes.count {
            if isFull(flow.backlogEnd) {
                guard let fresh = allocate() else { break }
                if flow.backlogEnd == Self.none {
                    flow.backlog = fresh
                    flows += 1
                } else {
                    unsafe chunks[Int(flow.backlogEnd)].next = fresh
                }
                flow.backlogEnd = fresh
            }
            let index = Int(flow.backlogEnd)
            let end = unsafe Int(chunks[index].end)
            let count = min(bytes.count - taken, Self.chunkSize - end)
            unsafe UnsafeMutableRawBufferPointer(start: memory(of: index) + end, count: count)
                .copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[taken..<taken + count]))
            unsafe chunks[index].end = Int32(end + count)
            taken += count
        }
        flow.backlogCount += UInt32(taken)
        return taken
    }

    /// Writes as much of a flow's backlog as its socket accepts.
    mutating func drain(_ flow: inout Flow) -> IOResult {
        var total = 0
        while flow.backlog != Self.none {
            let (result, offered) = write(flow)
            guard case .bytes(let written) = result else {
                if case .wouldBlock = result, total > 0 { return .bytes(total) }
                return result
            }
            total += written
            drop(written, of: &flow)
            if written < offered { break }
        }
        return .bytes(total)
    }

    /// Offers the first chunks of a backlog to the socket.
    private func write(_ flow: Flow) -> (result: IOResult, offered: Int) {
        unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: Self.vectors) { vectors in
            var count = 0
            var offered = 0
            var index = flow.backlog
            while index != Self.none, count < Self.vectors {
                let chunk = unsafe chunks[Int(index)]
                unsafe vectors[count] = unsafe iovec(
                    iov_base: memory(of: Int(index)) + Int(chunk.start), iov_len: Int(chunk.end - chunk.start))
                offered += Int(chunk.end - chunk.start)
                count += 1
                index = chunk.next
            }
            var message = unsafe msghdr()
            unsafe message.msg_iov = vectors.baseAddress
            unsafe message.msg_iovlen = count
            let result = transferring {
                unsafe tapas_sendmsg(flow.socket, &message, CInt(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
            return (result, offered)
        }
    }

    /// Removes the first bytes of a backlog.
    private mutating func drop(_ count: Int, of flow: inout Flow) {
        flow.backlogCount -= UInt32(count)
        var left = count
        while left > 0 {
            let index = Int(flow.backlog)
            let start = unsafe Int(chunks[index].start)
            let length = unsafe Int(chunks[index].end) - start
            if left < length {
                unsafe chunks[index].start = Int32(start + left)
                return
            }
            left -= length
            dropFirst(of: &flow)
        }
    }

    private mutating func dropFirst(of flow: inout Flow) {
        let next = unsafe chunks[Int(flow.backlog)].next
        free(flow.backlog)
        flow.backlog = next
        guard next == Self.none else { return }
        flow.backlogEnd = Self.none
        flows -= 1
    }

    /// Removes a flow's backlog.
    mutating func discard(_ flow: inout Flow) {
        while flow.backlog != Self.none { dropFirst(of: &flow) }
        flow.backlogCount = 0
    }
}
