// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Reads bytes from hexadecimal digits; blanks, line ends and all that follows `//` in a line are skipped.
///
/// - Parameter text: an even number of digits.
/// - Returns: the bytes; a digit that is none, or an odd number of them, is a mistake in the test and traps.
public func hex(_ text: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in text.split(separator: "\n") {
        var rest = line[...]
        if let comment = line.firstRange(of: "//") { rest = line[..<comment.lowerBound] }
        for character in rest where !character.isWhitespace {
            guard let value = character.hexDigitValue else { preconditionFailure("not hexadecimal: \(line)") }
            digits.append(UInt8(value))
        }
    }
    precondition(digits.count.isMultiple(of: 2), "an odd number of digits")
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// Bytes as hexadecimal digits, sixteen a line with blanks between pairs: for messages of failing tests.
public func hexDump(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    for (index, byte) in bytes.enumerated() {
        if index > 0 { text += index % 16 == 0 ? "\n" : " " }
        text += byte < 16 ? "0" + String(byte, radix: 16) : String(byte, radix: 16)
    }
    return text
}
