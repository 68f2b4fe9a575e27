// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The guest's memory: regions that are mapped into our process.
///
/// Every address comes from the guest or from its program and is looked up here; what does not lie in a region has no
/// pointer. The guest may change the memory at any time, also between two reads of ours.
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
    ///   - start: where its first byte is mapped; all of it must be, as long as this value is used.
    /// - Returns: False if it is not valid, overlaps another, or is one too many.
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
    ///   - count: how many bytes are wanted, at least 1.
    /// - Returns: As many of them as lie in one region; nil if none do.
    func bytes(at guestAddress: UInt64, upTo count: Int) -> UnsafeMutableRawBufferPointer? {
        for mapping in mappings where guestAddress >= mapping.region.guestAddress {
            let offset = guestAddress - mapping.region.guestAddress
            guard offset < mapping.region.size else { continue }
            let most = min(mapping.region.size - offset, UInt64(count))
            return unsafe UnsafeMutableRawBufferPointer(start: mapping.start + Int(offset), count: Int(most))
        }
        return nil
    }

    /// Where an address of the virtual machine's program lies, if all `count` bytes lie in one region and the address is
    /// a multiple of `alignment` for it and for us.
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
