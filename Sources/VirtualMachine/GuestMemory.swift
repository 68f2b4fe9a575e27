// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The guest's memory: regions that are mapped into our process.
///
/// All addresses come from the guest or from its program and are looked up here; an address outside of the regions has
/// no pointer. The guest may change the memory at any time, also between two of our reads.
@safe
public struct GuestMemory: ~Copyable {
    /// A region and where it is mapped.
    @safe
    private struct Mapping {
        var region: VhostUserRegion
        var start: UnsafeMutableRawPointer?
    }

    // In place, so that looking up an address counts no reference.
    private var mappings: [8 of Mapping]
    private var count = 0

    /// Memory without a region.
    public init() {
        precondition(VhostUserMessage.mostRegions == 8, "another number of regions")
        let none = VhostUserRegion(guestAddress: 0, size: 0, userAddress: 0, mappingOffset: 0)
        unsafe mappings = .init(repeating: Mapping(region: none, start: nil))
    }

    /// Adds a region.
    ///
    /// - Parameters:
    ///   - region: the region.
    ///   - start: the address at which its first byte is mapped; the whole region must stay mapped while this value is
    ///     used.
    /// - Returns: False if it is invalid, overlaps another region, or exceeds the limit.
    public mutating func add(_ region: VhostUserRegion, at start: UnsafeMutableRawPointer) -> Bool {
        guard count < VhostUserMessage.mostRegions, region.isValid else { return false }
        for position in 0..<count where mappings[position].region.overlaps(region) { return false }
        mappings[count] = unsafe Mapping(region: region, start: start)
        count += 1
        return true
    }

    /// The bytes at an address of the guest.
    ///
    /// - Parameters:
    ///   - guestAddress: the address.
    ///   - count: the number of bytes wanted, at least 1.
    /// - Returns: The part of them that is in one region; nil if none is.
    func bytes(at guestAddress: UInt64, upTo count: Int) -> UnsafeMutableRawBufferPointer? {
        for position in 0..<self.count where guestAddress >= mappings[position].region.guestAddress {
            let offset = guestAddress - mappings[position].region.guestAddress
            let size = mappings[position].region.size
            guard offset < size, let start = unsafe mappings[position].start else { continue }
            let most = min(size - offset, UInt64(count))
            return unsafe UnsafeMutableRawBufferPointer(start: start + Int(offset), count: Int(most))
        }
        return nil
    }

    /// The pointer for an address of the virtual machine's program; nil unless all `count` bytes are in one region and
    /// the address is aligned both there and here.
    func pointer(toUser address: UInt64, count: Int, alignment: Int) -> UnsafeMutableRawPointer? {
        for position in 0..<self.count where address >= mappings[position].region.userAddress {
            let offset = address - mappings[position].region.userAddress
            let size = mappings[position].region.size
            guard offset < size, size - offset >= UInt64(count), let start = unsafe mappings[position].start
            else { continue }
            let pointer = unsafe start + Int(offset)
            return unsafe UInt(bitPattern: pointer) % UInt(alignment) == 0 ? pointer : nil
        }
        return nil
    }
}
