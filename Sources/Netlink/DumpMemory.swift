// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// When one route of 20,000 changes, the new state is found by dumping all of them. Comparing a message with the one of
// the last dump costs a tenth of parsing it, and a table is dumped in the same order each time. So the bytes of the
// last dump are kept, together with the values that were made of them, and the next dump is compared along the way. As
// long as nothing differs, nothing is copied. The first difference begins a new list; each message that is found within
// a few steps of the old list takes its value from there.

internal import Glibc

/// The messages of a dump and the values made of them, so that only the differences of the next dump are parsed.
package struct DumpMemory<Value> {
    /// How far ahead in the last dump a message is searched: up to so many consecutive removals are recognised.
    private static var lookAhead: Int { 8 }

    /// The messages of one dump.
    fileprivate struct Contents {
        /// The messages' payloads, one after the other.
        var bytes: [UInt8] = []
        /// Where each payload ends.
        var ends: [Int] = []
        /// The index of each message's value; -1 for none, -2 for a value that must be made anew each time.
        var places: [Int32] = []
        /// The values in the kernel's order.
        var values: [Value] = []

        func range(_ index: Int) -> Range<Int> { (index == 0 ? 0 : ends[index - 1])..<ends[index] }

        mutating func append(_ payload: Span<UInt8>, _ value: Value?, isLasting: Bool) {
            unsafe payload.withUnsafeBufferPointer { unsafe bytes.append(contentsOf: $0) }
            ends.append(bytes.count)
            places.append(isLasting ? value == nil ? -1 : Int32(truncatingIfNeeded: values.count) : -2)
            if let value { values.append(value) }
        }
    }

    private var last = Contents()
    /// The dump that is being read, from the first difference on; nil before that.
    private var fresh: Contents?
    /// The message of the last dump that is expected next.
    private var position = 0

    /// The values of the last dump, in the kernel's order.
    package var values: [Value] { last.values }
    /// How many messages have been parsed into values, in all dumps.
    package private(set) var madeCount = 0

    /// Begins with nothing.
    package init() {}

    /// Begins to read a dump.
    package mutating func begin() {
        fresh = nil
        position = 0
    }

    /// Processes the next message of the dump.
    ///
    /// - payload: The bytes behind the message's header.
    ///   - payload: What follows the message's header.
    ///   - make: Makes the value, and says whether equal bytes will always have the same value.
    package mutating func take(
        _ payload: Span<UInt8>, _ make: (Span<UInt8>) -> (value: Value?, isLasting: Bool)
    ) {
        if fresh == nil {
            if matches(payload, position) {
                position += 1
                return
            }
            fresh = beginning(position)
        }
        for candidate in position..<min(position + Self.lookAhead, last.ends.count) where matches(payload, candidate) {
            let place = last.places[candidate]
            fresh?.append(payload, place < 0 ? nil : last.values[Int(place)], isLasting: true)
            position = candidate + 1
            return
        }
        madeCount += 1
        let (value, isLasting) = make(payload)
        fresh?.append(payload, value, isLasting: isLasting)
    }

    /// Ends a dump that was read completely.
    package mutating func end() {
        if let fresh {
            last = fresh
        } else if position < last.ends.count {
            last = beginning(position)
        }
        begin()
    }

    /// The first messages of the last dump.
    private func beginning(_ count: Int) -> Contents {
        guard count > 0 else { return Contents() }
        var contents = Contents()
        contents.bytes = last.bytes.beginning(last.ends[count - 1], spare: 256)
        contents.ends = last.ends.beginning(count, spare: 8)
        contents.places = last.places.beginning(count, spare: 8)
        // None of these values was made anew each time; such a message would not have matched.
        contents.values = last.values.beginning(contents.places.lazy.filter { $0 >= 0 }.count, spare: 8)
        return contents
    }

    private func matches(_ payload: Span<UInt8>, _ index: Int) -> Bool {
        guard index < last.ends.count, last.places[index] != -2 else { return false }
        let range = last.range(index)
        guard range.count == payload.count else { return false }
        return unsafe payload.withUnsafeBufferPointer { new in
            unsafe last.bytes.withUnsafeBufferPointer { old in
                guard let new = new.baseAddress, let old = old.baseAddress else { return true }
                return unsafe memcmp(new, old + range.lowerBound, range.count) == 0
            }
        }
    }
}

extension Array {
    /// A copy of the first elements, with room for all of them and some more.
    fileprivate func beginning(_ count: Int, spare: Int) -> [Element] {
        var copy: [Element] = []
        copy.reserveCapacity(self.count + spare)
        copy.append(contentsOf: self[..<count])
        return copy
    }
}

extension DumpMemory: Sendable where Value: Sendable {}
extension DumpMemory.Contents: Sendable where Value: Sendable {}
