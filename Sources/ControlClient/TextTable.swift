// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkTypes

/// Words in colours, on terminals only.
public struct TextStyle: Sendable {
    /// Whether colours are used.
    public var isColored: Bool

    /// Makes a style.
    public init(isColored: Bool) {
        self.isColored = isColored
    }

    /// The colours that are used, by their SGR numbers (ECMA-48).
    enum Color: Int {
        case bold = 1
        case red = 31
        case green = 32
        case yellow = 33
        case dim = 2
    }

    func paint(_ text: String, _ color: Color) -> String {
        isColored ? "\u{1B}[\(color.rawValue)m\(text)\u{1B}[0m" : text
    }
}

/// Rows in aligned columns, two blanks apart; text from outside cannot control the terminal.
struct TextTable {
    private var rows: [[String]] = []
    /// The columns whose values are numbers and are aligned to the right.
    var rightColumns: Set<Int> = []

    /// Whether there is no row.
    var isEmpty: Bool { rows.isEmpty }

    /// Adds a row.
    mutating func add(_ cells: String...) {
        rows.append(cells.map(\.escapingControlCharacters))
    }

    /// The lines, without blanks at their ends.
    var lines: [String] {
        var widths: [Int] = []
        for row in rows {
            for (column, cell) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return rows.map { row in
            let cells = row.enumerated().map { column, cell in
                let space = String(repeating: " ", count: widths[column] - cell.count)
                return rightColumns.contains(column) ? space + cell : cell + space
            }
            let line = cells.joined(separator: "  ")
            return String(line[..<(line.lastIndex { $0 != " " }.map { line.index(after: $0) } ?? line.startIndex)])
        }
    }
}

/// Numbers as people read them.
enum Readable {
    /// Seconds: "12.5 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
    static func duration(_ seconds: Double?) -> String {
        guard let seconds else { return "-" }
        if seconds < 60 {
            let tenths = Int64((seconds * 10).rounded())
            return tenths % 10 == 0 ? "\(tenths / 10) s" : "\(tenths / 10).\(tenths % 10) s"
        }
        let whole = Int64(seconds)
        let parts: [(Int64, String)] = [
            (whole / 86_400, "d"), (whole / 3600 % 24, "h"), (whole / 60 % 60, "min"), (whole % 60, "s"),
        ]
        let used = parts.drop { $0.0 == 0 }.prefix(2).filter { $0.0 > 0 }
        return used.map { "\($0.0) \($0.1)" }.joined(separator: " ")
    }

    /// Milliseconds with one decimal below 10.
    static func milliseconds(_ value: Double?) -> String {
        guard let value else { return "-" }
        if value >= 10 { return String(Int64(value.rounded())) }
        let tenths = Int64((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    /// Bytes: "512", "1.5 kB", "20 MB".
    static func bytes(_ value: Int64?) -> String {
        guard let value else { return "-" }
        guard value >= 1000 else { return "\(value)" }
        var amount = Double(value)
        var unit = ""
        for name in ["kB", "MB", "GB", "TB", "PB"] where amount >= 999.5 {
            amount /= 1000
            unit = name
        }
        let tenths = Int64((amount * 10).rounded())
        return amount < 9.95 ? "\(tenths / 10).\(tenths % 10) \(unit)" : "\(Int64(amount.rounded())) \(unit)"
    }

    /// An address with a port: "192.0.2.1:80", "[2001:db8::1]:80".
    static func endpoint(_ value: JSONValueEndpoint?) -> String {
        guard let value else { return "-" }
        let place = value.address.contains(":") ? "[\(value.address)]" : value.address
        return value.port.map { "\(place):\($0)" } ?? value.address
    }
}

/// An address with a port, in the form of answers.
struct JSONValueEndpoint {
    var address: String
    var port: Int64?
}

extension TextStyle {
    /// A heading line.
    ///
    /// - Parameter text: the words.
    /// - Returns: the line.
    public func heading(_ text: String) -> String { paint("-- \(text)", .bold) }
}
