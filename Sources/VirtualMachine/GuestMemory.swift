// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The guest's memory: regions that are mapped into our process.
///
/// All addresses come from the guest or from its program and are looked up here; an address outside of the regions has
/// no pointer. The guest may change the memory at any time, also between two of our reads.
@safe
public struct GuestMemory {
    /// A region and where it is mapped.
    @safe
    private struct Mapping {
        let region: VhostUserRegion
        let start: UnsafeMutableRawPointer
    }

    private var mappings: [Mapping] = []

    /// Memory without a region.
    public init() {}

    /// Adds a region.
    ///
    /// - Parameters:
    ///   - region: the region.
    ///   - start: the address at which its first byte is mapped; the whole region must stay mapped while this value is
    ///     used.
    /// - Returns: False if it is invalid, overlaps another region, or exceeds the limit.
    public mutating func add(_ region: VhostUserRegion, at start: UnsafeMutableRawPointer) -> Bool {
        guard mappings.count < VhostUserMessage.mostRegions, region.isValid,
            !mappings.contains(where: { $0.region.overlaps(region) })
        else { return false }
        mappings.append(unsafe Mapping(region: region, start: start))
        return true
    }

    /// The bytes at an address of the guest.
    ///
    /// - Parameters:
    ///   - guestAddress: the address.
    ///   - count: the number of bytes wanted, at least 1.
    /// - Returns: The part of them that is in one region; nil if none is.
    func bytes(at guestAddress: UInt64, upTo count: Int) -> UnsafeMutableRawBufferPointer? {
        for mapping in mappings where guestAddress >= mapping.region.guestAddress {
            let offset = guestAddress - mapping.region.guestAddress
            guard offset < mapping.region.size else { continue }
            let most = min(mapping.region.size - offset, UInt64(count))
            return unsafe UnsafeMutableRawBufferPointer(start: mapping.start + Int(offset), count: Int(most))
        }
        return nil
    }

    /// The pointer for an address of the virtual machine's program; nil unless all `count` bytes are in one region and
    /// the address is aligned both there and here.
    func pointer(toUser address: UInt64, count: Int, alignment: Int) -> UnsafeMutableRawPointer? {
        for mapping in mappings where address >= mapping.region.userAddress {
            let offset = address - mapping.region.userAddress
            guard offset < mapping.region.size, mapping.region.size - offset >= UInt64(count) else { continue }
            let pointer = unsafe mapping.start + Int(offset)
            return unsafe UInt(bitPattern: pointer) % UInt(alignment) == 0 ? pointer : nil
        }
        return nil
    }
}
