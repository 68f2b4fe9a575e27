// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension JSONValue {
    /// The value as one line, without white space.
    public var compactText: String {
        var writer = JSONWriter(isIndented: false)
        writer.write(self, indent: 0)
        return writer.text
    }

    /// The value for people: one member on a line, indented by two.
    public var indentedText: String {
        var writer = JSONWriter(isIndented: true)
        writer.write(self, indent: 0)
        return writer.text
    }
}

private struct JSONWriter {
    let isIndented: Bool
    var text = ""

    init(isIndented: Bool) {
        self.isIndented = isIndented
    }

    mutating func write(_ value: JSONValue, indent: Int) {
        switch value {
        case .null: text += "null"
        case .bool(let value): text += value ? "true" : "false"
        case .integer(let value): text += "\(value)"
        // JSON has neither infinities nor "not a number".
        case .number(let value): text += value.isFinite ? "\(value)" : "null"
        case .string(let value): write(value)
        case .array(let elements):
            text += "["
            for (position, element) in elements.enumerated() {
                separate(position, indent: indent + 1)
                write(element, indent: indent + 1)
            }
            close("]", isEmpty: elements.isEmpty, indent: indent)
        case .object(let object):
            text += "{"
            for (position, member) in object.members.enumerated() {
                separate(position, indent: indent + 1)
                write(member.name)
                text += isIndented ? ": " : ":"
                write(member.value, indent: indent + 1)
            }
            close("}", isEmpty: object.members.isEmpty, indent: indent)
        }
    }

    private mutating func separate(_ position: Int, indent: Int) {
        if position > 0 { text += "," }
        if isIndented { text += "\n" + String(repeating: "  ", count: indent) }
    }

    private mutating func close(_ bracket: String, isEmpty: Bool, indent: Int) {
        if isIndented, !isEmpty { text += "\n" + String(repeating: "  ", count: indent) }
        text += bracket
    }

    private mutating func write(_ string: String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: text += Self.escaped(scalar.value)
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }

    private static func escaped(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    }
}
