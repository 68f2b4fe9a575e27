// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The regions of a virtual machine's memory are files of its program, which the link maps. The program could make a file
// shorter while it is mapped; an access to the missing part would end this process (SIGBUS). Only some of the files in
// use cannot shrink (`F_SEAL_SHRINK`, which QEMU sets on its memfd), so the seal is not required. Instead, the size is
// checked when the file is mapped, and each mapping is guarded: the first access to missing bytes replaces the mapping
// by empty memory. Then `isLost` is true, and the link drops the client.
//
// Each file is mapped from its beginning, because an offset would have to be a multiple of the size of its pages, which
// may be huge pages. The part before the region takes address space only.
//
// syscalls: running(data-path): fstat newfstatat rt_sigaction

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import SystemPackage
internal import VirtualMachine

/// The memory of a virtual machine, mapped as long as this value lives.
@safe
struct GuestRegions: ~Copyable {
    /// A mapping of a file.
    @safe
    private struct Mapping {
        let start: UnsafeMutableRawPointer
        let length: Int
        let slot: CInt
    }

    /// The memory by guest addresses.
    private(set) var memory = GuestMemory()
    private var mappings: [Mapping] = []

    /// Makes a value without memory.
    init() {}

    deinit {
        for mapping in mappings {
            tapas_unguard_mapping(mapping.slot)
            unsafe tapas_unmap(mapping.start, mapping.length)
        }
    }

    /// Maps a region, which begins in the file at the region's offset.
    ///
    /// - Throws: EINVAL if the file is no regular one, does not have all bytes of the region, or if the region overlaps
    ///   another; the error of fstat(2) or mmap(2).
    mutating func map(_ region: VhostUserRegion, of file: CInt) throws(SystemCallError) {
        var unit: Int64 = 0
        let size = unsafe tapas_mappable_size(file, &unit)
        guard size >= 0 else { throw SystemCallError("fstat", "a region of memory", currentErrno) }
        let (end, isRound) = region.mappingOffset.addingReportingOverflow(region.size)
        guard !isRound, end <= UInt64(size) else {
            throw SystemCallError("mmap", "a region of memory that its file does not have", .invalidArgument)
        }
        // A mapping of huge pages can only be removed as a whole number of them.
        let page = unit > 0 && unit & (unit - 1) == 0 ? max(UInt64(unit), 4096) : 4096
        let (padded, isTooLong) = end.addingReportingOverflow(page - 1)
        guard !isTooLong, let length = Int(exactly: padded & ~(page - 1)) else {
            throw SystemCallError("mmap", "a region of memory", .noMemory)
        }
        guard let start = unsafe tapas_map_shared(file, length) else {
            throw SystemCallError("mmap", "a region of memory", currentErrno)
        }
        let slot = unsafe tapas_guard_mapping(start, length)
        guard slot >= 0 else {
            let error = currentErrno
            unsafe tapas_unmap(start, length)
            throw SystemCallError("sigaction", "a region of memory", error)
        }
        mappings.append(unsafe Mapping(start: start, length: length, slot: slot))
        guard unsafe memory.add(region, at: start + Int(region.mappingOffset)) else {
            throw SystemCallError("mmap", "a region of memory that overlaps another", .invalidArgument)
        }
    }

    /// Whether a file has become shorter, so that its mapping was replaced.
    var isLost: Bool { mappings.contains { tapas_mapping_is_lost($0.slot) } }
}
