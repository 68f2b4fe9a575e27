// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Why a text is not JSON, and where.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, in a few words.
    public var problem: String
    /// The offset of the byte at which the error was found.
    public var offset: Int

    /// The problem with its place.
    public var description: String { "\(problem) at byte \(offset)" }
}

extension JSONValue {
    /// The deepest nesting that the parser accepts.
    public static let greatestDepth = 32

    /// Reads one JSON text (RFC 8259), strictly.
    ///
    /// Beside what the RFC forbids, it refuses names that occur twice in an object, nesting deeper than
    /// ``greatestDepth``, strings that are not UTF-8, unpaired surrogates, and numbers that no `Double` can hold. The
    /// caller bounds the length.
    ///
    /// - Parameter bytes: the text in UTF-8; only white space may surround it.
    /// - Throws: What is wrong, and where.
    public init(parsing bytes: [UInt8]) throws(JSONError) {
        var parser = JSONParser(bytes: bytes)
        self = try parser.text()
    }

    /// Reads one JSON text; see ``init(parsing:)-([UInt8])``.
    ///
    /// - Throws: What is wrong, and where.
    public init(parsing text: String) throws(JSONError) {
        try self.init(parsing: Array(text.utf8))
    }
}

/// A recursive-descent parser over bytes; every position is checked before it is read.
private struct JSONParser {
    let bytes: [UInt8]
    var position = 0
    var depth = 0

    init(bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func text() throws(JSONError) -> JSONValue {
        let result = try value()
        skipSpace()
        guard position == bytes.count else { throw error("more than one value") }
        return result
    }

    // MARK: Bytes

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private func error(_ problem: String) -> JSONError { JSONError(problem: problem, offset: position) }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private mutating func take(_ byte: UInt8) -> Bool {
        guard next == byte else { return false }
        position += 1
        return true
    }

    // MARK: Values

    private mutating func value() throws(JSONError) -> JSONValue {
        skipSpace()
        switch next {
        case UInt8(ascii: "{"): return try nested { parser throws(JSONError) in try parser.object() }
        case UInt8(ascii: "["): return try nested { parser throws(JSONError) in try parser.array() }
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), (0x30...0x39)?: return try number()
        case nil: throw error("the text ends where a value is expected")
        default: throw error("no value begins here")
        }
    }

    private mutating func nested(
        _ body: (inout JSONParser) throws(JSONError) -> JSONValue
    ) throws(JSONError) -> JSONValue {
        guard depth < JSONValue.greatestDepth else { throw error("nested too deeply") }
        depth += 1
        position += 1
        let result = try body(&self)
        depth -= 1
        return result
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        for byte in "\(word)".utf8 where !take(byte) { throw error("no value begins here") }
        return value
    }

    private mutating func array() throws(JSONError) -> JSONValue {
        var elements: [JSONValue] = []
        skipSpace()
        if take(UInt8(ascii: "]")) { return .array([]) }
        while true {
            elements.append(try value())
            skipSpace()
            if take(UInt8(ascii: "]")) { return .array(elements) }
            guard take(UInt8(ascii: ",")) else { throw error("',' or ']' expected") }
        }
    }

    private mutating func object() throws(JSONError) -> JSONValue {
        var object = JSONObject()
        var names: Set<String> = []
        skipSpace()
        if take(UInt8(ascii: "}")) { return .object(object) }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw error("a name expected") }
            let name = try string()
            guard names.insert(name).inserted else { throw error("a name that occurs twice") }
            skipSpace()
            guard take(UInt8(ascii: ":")) else { throw error("':' expected") }
            object.append(name, try value())
            skipSpace()
            if take(UInt8(ascii: "}")) { return .object(object) }
            guard take(UInt8(ascii: ",")) else { throw error("',' or '}' expected") }
        }
    }

    // MARK: Numbers

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = position
        var isInteger = true
        _ = take(UInt8(ascii: "-"))
        if !take(UInt8(ascii: "0")) { try digits() }
        if take(UInt8(ascii: ".")) {
            isInteger = false
            try digits()
        }
        if take(UInt8(ascii: "e")) || take(UInt8(ascii: "E")) {
            isInteger = false
            if !take(UInt8(ascii: "+")) { _ = take(UInt8(ascii: "-")) }
            try digits()
        }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger, let value = Int64(text) { return .integer(value) }
        guard let value = Double(text), value.isFinite else { throw error("a number beyond all bounds") }
        return .number(value)
    }

    private mutating func digits() throws(JSONError) {
        let start = position
        while let byte = next, byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") { position += 1 }
        guard position > start else { throw error("a digit expected") }
    }

    // MARK: Strings

    private mutating func string() throws(JSONError) -> String {
        position += 1
        var result: [UInt8] = []
        while true {
            guard let byte = next else { throw error("a string without end") }
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                guard let text = String(validating: result, as: UTF8.self) else { throw error("a string not in UTF-8") }
                return text
            case UInt8(ascii: "\\"):
                position += 1
                try escape(into: &result)
            case 0..<0x20: throw error("a control character in a string")
            default:
                result.append(byte)
                position += 1
            }
        }
    }

    private mutating func escape(into result: inout [UInt8]) throws(JSONError) {
        guard let byte = next else { throw error("a string without end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): result.append(byte)
        case UInt8(ascii: "b"): result.append(0x08)
        case UInt8(ascii: "f"): result.append(0x0C)
        case UInt8(ascii: "n"): result.append(0x0A)
        case UInt8(ascii: "r"): result.append(0x0D)
        case UInt8(ascii: "t"): result.append(0x09)
        case UInt8(ascii: "u"): result += Array(String(Character(try escapedScalar())).utf8)
        default:
            position -= 1
            throw error("an unknown escape")
        }
    }

    private mutating func escapedScalar() throws(JSONError) -> Unicode.Scalar {
        let first = try hexadecimal()
        if let scalar = Unicode.Scalar(first) { return scalar }
        guard first < 0xDC00, take(UInt8(ascii: "\\")), take(UInt8(ascii: "u")) else {
            throw error("half of a surrogate pair")
        }
        let second = try hexadecimal()
        guard second >= 0xDC00, second < 0xE000,
            let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
        else { throw error("half of a surrogate pair") }
        return scalar
    }

    private mutating func hexadecimal() throws(JSONError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw error("four hexadecimal digits expected")
            }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }
}
