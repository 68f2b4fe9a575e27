// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The bytes that hexadecimal digits say; blanks and newlines are ignored, as is what follows `#` or `//` on a line.
package func hexBytes(_ text: String) -> [UInt8] {
    var digits: [UInt8] = []
    for line in text.split(separator: "\n", omittingEmptySubsequences: true) {
        var previous: Character = " "
        for character in line {
            if character == "#" || character == "/" && previous == "/" { break }
            previous = character
            if let digit = character.hexDigitValue { digits.append(UInt8(digit)) }
        }
    }
    precondition(digits.count.isMultiple(of: 2), "half a byte in a test's bytes")
    return stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] }
}

/// Bytes as hexadecimal digits without blanks.
package func hexText(_ bytes: some Sequence<UInt8>) -> String {
    var text = ""
    for byte in bytes { text += (byte < 16 ? "0" : "") + String(byte, radix: 16) }
    return text
}
