// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import VirtualMachine

/// Interprets the input as a stream of frames that arrives in pieces: the first byte of each piece is its length.
///
/// The frames found must be those of a reader that has all bytes at once, wherever the pieces end, and inside the
/// received bytes.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = [UInt8](UnsafeBufferPointer(start: start, count: count))
    var pieces: [ArraySlice<UInt8>] = []
    var position = 0
    while position < count {
        let end = min(position + 1 + Int(input[position]), count)
        pieces.append(input[(position + 1)..<end])
        position = end
    }
    let whole = pieces.flatMap(\.self)
    var expected: [ArraySlice<UInt8>] = []
    var isBroken = false
    position = 0
    while whole.count - position >= 4 {
        let length = whole[position..<(position + 4)].reduce(0) { $0 << 8 | Int($1) }
        guard (14...600).contains(length) else {
            isBroken = true
            break
        }
        guard whole.count - position - 4 >= length else { break }
        expected.append(whole[(position + 4)..<(position + 4 + length)])
        position += 4 + length
    }

    var frames = StreamFrames(shortest: 14, longest: 600)
    var memory = [UInt8](repeating: 0, count: 2048)
    var found = 0
    for piece in pieces {
        if frames.end + piece.count > memory.count {
            memory.replaceSubrange(0..<frames.count, with: Array(memory[frames.start..<frames.end]))
            frames.moveToStart()
        }
        memory.replaceSubrange(frames.end..<(frames.end + piece.count), with: piece)
        frames.append(piece.count)
        reading: while true {
            switch frames.next(in: memory.span.bytes) {
            case .frame(let offset, let count):
                precondition(found < expected.count && memory[offset..<(offset + count)] == expected[found])
                found += 1
            case .incomplete: break reading
            case .invalid:
                precondition(isBroken && found == expected.count && frames.isBroken)
                return 0
            }
        }
        precondition(frames.count < 604, "no more is kept than an unfinished frame")
    }
    precondition(found == expected.count && !isBroken)
    return 0
}
