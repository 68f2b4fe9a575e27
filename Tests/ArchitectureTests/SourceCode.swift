// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The code of a source file: its text without comments and without the contents of strings.
///
/// Comments and strings become blanks, and lines keep their numbers. Interpolations in Swift strings are code and stay.
struct SourceCode {
    private let bytes: [UInt8]
    private var position = 0
    private var result: [UInt8] = []

    /// The code of Swift or C text.
    static func of(_ text: String) -> String {
        var code = SourceCode(bytes: Array(text.utf8))
        code.readCode(until: nil)
        return String(decoding: code.result, as: UTF8.self)
    }

    private init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    private func byte(_ offset: Int = 0) -> UInt8? {
        position + offset < bytes.count ? bytes[position + offset] : nil
    }

    private func sees(_ text: StaticString) -> Bool {
        for index in 0..<text.utf8CodeUnitCount where byte(index) != text.utf8Start[index] { return false }
        return true
    }

    private mutating func keep() {
        result.append(bytes[position])
        position += 1
    }

    private mutating func blank(_ count: Int = 1) {
        for _ in 0..<count where position < bytes.count {
            result.append(bytes[position] == UInt8(ascii: "\n") ? UInt8(ascii: "\n") : UInt8(ascii: " "))
            position += 1
        }
    }

    /// Reads code to the end, or to the parenthesis that ends an interpolation.
    private mutating func readCode(until end: UInt8?) {
        var depth = 0
        while let byte = byte() {
            if sees("//") {
                while let byte = self.byte(), byte != UInt8(ascii: "\n") { blank() }
            } else if sees("/*") {
                readBlockComment()
            } else if byte == UInt8(ascii: "\"") || sees("#\"") {
                readString()
            } else if byte == UInt8(ascii: "'"), let length = characterLength() {
                blank(length)
            } else if byte == UInt8(ascii: "("), end != nil {
                depth += 1
                keep()
            } else if byte == end {
                if depth == 0 { return }
                depth -= 1
                keep()
            } else {
                keep()
            }
        }
    }

    private mutating func readBlockComment() {
        var depth = 0
        repeat {
            if sees("/*") {
                depth += 1
                blank(2)
            } else if sees("*/") {
                depth -= 1
                blank(2)
            } else {
                blank()
            }
        } while depth > 0 && position < bytes.count
    }

    /// The length of a C character constant: 'x' or '\x'.
    private func characterLength() -> Int? {
        if byte(1) == UInt8(ascii: "\\") {
            return (3...6).first { byte($0) == UInt8(ascii: "'") }.map { $0 + 1 }
        }
        return byte(2) == UInt8(ascii: "'") ? 3 : nil
    }

    private mutating func readString() {
        var pounds = 0
        while byte() == UInt8(ascii: "#") {
            pounds += 1
            blank()
        }
        let isLong = sees("\"\"\"")
        blank(isLong ? 3 : 1)
        while let byte = byte() {
            if byte == UInt8(ascii: "\\"), (0..<pounds).allSatisfy({ self.byte(1 + $0) == UInt8(ascii: "#") }) {
                blank(1 + pounds)
                if self.byte() == UInt8(ascii: "(") {
                    keep()
                    readCode(until: UInt8(ascii: ")"))
                    if position < bytes.count { keep() }
                } else {
                    blank()
                }
            } else if isLong ? sees("\"\"\"") : byte == UInt8(ascii: "\"") {
                let length = isLong ? 3 : 1
                let isEnd = (0..<pounds).allSatisfy { self.byte(length + $0) == UInt8(ascii: "#") }
                blank(isEnd ? length + pounds : length)
                if isEnd { return }
            } else if byte == UInt8(ascii: "\n"), !isLong {
                return
            } else {
                blank()
            }
        }
    }
}
