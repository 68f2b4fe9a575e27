// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Options

/// The contents of a `hook.conf`: defaults for the annotations, and the options that an annotation may use.
///
/// Lines are `KEY = VALUE`; empty lines and lines that begin with `#` are ignored. Each key may occur once:
///
/// - `options`: options of tapas, split as a shell splits words;
/// - `publish`: ports, comma-separated;
/// - `enable`: `true` or `false`;
/// - `allow-options`: long names of options without dashes, separated by commas or blanks; `default` stands for the
///   default list, `all` for every option, `none` for no option.
public struct HookConfiguration: Hashable, Sendable {
    /// The longest file that is read, in bytes.
    public static let greatestLength = 1 << 16

    /// The file, as messages name it; empty for no file.
    public var path: String
    /// Default options, as words.
    public var options: [String]?
    /// Default ports.
    public var publish: String?
    /// Whether containers without the annotation are attached.
    public var enable: Bool?
    /// The options that an annotation may use; nil if the file does not say.
    public var allowedOptions: Set<OptionName>?

    /// The configuration without a file.
    public init() {
        path = ""
    }

    /// Reads a file's contents.
    ///
    /// - Parameters:
    ///   - bytes: the contents.
    ///   - path: the file, as messages name it.
    /// - Throws: What is wrong, with the file and the line.
    public init(parsing bytes: [UInt8], path: String) throws(HookError) {
        self.path = path
        guard bytes.count <= Self.greatestLength else {
            throw HookError(path, "is longer than \(Self.greatestLength) bytes")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else { throw HookError(path, "is not UTF-8") }
        var seen: Set<String> = []
        for (index, line) in text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let line = trimmed(Substring(line))
            if line.isEmpty || line.hasPrefix("#") { continue }
            let place = "\(path):\(index + 1)"
            guard let separator = line.firstIndex(of: "=") else { throw HookError(place, "no KEY = VALUE") }
            let key = String(trimmed(line[..<separator]))
            let value = String(trimmed(line[line.index(after: separator)...]))
            guard seen.insert(key).inserted else { throw HookError(place, "\(quoted(key)) is given twice") }
            try set(key, value, place)
        }
    }

    private mutating func set(_ key: String, _ value: String, _ place: String) throws(HookError) {
        switch key {
        case "options":
            do throws(ShellWordsError) {
                options = try ShellWords.split(value)
            } catch {
                throw HookError(place, "options \(error)")
            }
        case "publish": publish = value
        case "enable": enable = try Self.truth(value, place)
        case "allow-options": allowedOptions = try Self.names(value, place)
        default:
            throw HookError(place, "unknown key \(quoted(key)): options, publish, enable or allow-options")
        }
    }

    /// Reads `true` or `false`.
    static func truth(_ text: String, _ place: String) throws(HookError) -> Bool {
        switch text {
        case "true": return true
        case "false": return false
        default: throw HookError(place, "\(quoted(text)) is neither true nor false")
        }
    }

    private static func names(_ text: String, _ place: String) throws(HookError) -> Set<OptionName> {
        var names: Set<OptionName> = []
        for word in text.split(whereSeparator: { ", \t".contains($0) }) {
            switch word {
            case "none": continue
            case "all": names.formUnion(OptionName.allCases)
            case "default": names.formUnion(AllowedOptions.standard)
            default:
                guard let option = OptionDescription.table.first(where: { $0.longNames.contains(String(word)) }) else {
                    throw HookError(place, "\(quoted(word)) is no option of tapas: long names without dashes")
                }
                names.insert(option.name)
            }
        }
        return names
    }
}

/// A text without blanks at its ends.
private func trimmed(_ text: Substring) -> Substring {
    func isBlank(_ character: Character) -> Bool { character == " " || character == "\t" || character == "\r" }
    var text = text.drop(while: isBlank)
    while let last = text.last, isBlank(last) { text.removeLast() }
    return text
}
