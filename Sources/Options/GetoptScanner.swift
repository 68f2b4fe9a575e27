// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The words of the command line, split into options by glibc's getopt_long. The program's callers rely on its grammar:
// clusters of letters, unambiguous abbreviations, `--opt=arg` and `--opt arg`, `--`. It stops at the first operand and
// never reads beyond it. Its own messages would go to standard error, so they are switched off, and this file makes
// messages with the same words, which callers search for.

internal import CLinux
internal import Synchronization

/// The options of a command line, in order, before any of them is interpreted.
struct GetoptScanner {
    /// An option with its argument.
    struct Item: Hashable {
        var option: OptionDescription
        /// The argument; empty if the option takes none.
        var argument: String
    }

    /// The options up to the first operand, or to the first that cannot be read.
    private(set) var items: [Item] = []
    /// Why reading ended before the first operand.
    private(set) var failure: UsageError?
    /// The index of the first operand in the arguments.
    private(set) var operandIndex: Int

    /// getopt(3) keeps its state in globals.
    private static let lock = Mutex(())
    /// Numbers of long options start above all letters.
    private static let numberBase: Int32 = 256

    /// Scans a command line that includes the program's name.
    init(_ arguments: [String]) {
        operandIndex = arguments.count
        guard arguments.count > 1 else { return }
        let options = OptionDescription.table.flatMap { option in
            (option.longNames + option.hiddenNames).map { (name: $0, option: option) }
        }
        let letters = OptionDescription.table.compactMap { option in
            option.letter.map { option.argument == nil ? "\($0)" : "\($0):" }
        }.joined()
        var results: [Raw] = []
        Self.lock.withLock { _ in
            unsafe Self.withCStrings(options.map(\.name)) { names in
                var table: [tapas_long_option] = unsafe []
                for (index, entry) in options.enumerated() {
                    unsafe table.append(
                        tapas_long_option(
                            name: names[index],
                            takes_argument: entry.option.argument == nil ? 0 : entry.option.isArgumentOptional ? 2 : 1,
                            value: Self.numberBase + Int32(entry.option.name.rawValue)))
                }
                unsafe Self.withCStrings(arguments) { argv in
                    tapas_getopt_start()
                    while true {
                        let step = unsafe tapas_getopt_next(
                            Int32(clamping: arguments.count), argv, letters, table, Int32(table.count))
                        let argument = unsafe step.argument.map { unsafe String(cString: $0) }
                        unsafe results.append(
                            Raw(kind: step.kind, value: step.value, argument: argument, operand: step.operand))
                        if unsafe step.kind != Int32(TAPAS_GETOPT_OPTION.rawValue) { break }
                    }
                }
            }
        }
        for result in results { interpret(result) }
    }

    /// A result of the C function, with its text copied.
    private struct Raw {
        var kind: Int32
        var value: Int32
        var argument: String?
        var operand: Int32
    }

    private mutating func interpret(_ raw: Raw) {
        switch tapas_getopt_kind(rawValue: UInt32(bitPattern: raw.kind)) {
        case TAPAS_GETOPT_OPTION:
            guard let option = Self.option(number: raw.value) else { break }
            items.append(Item(option: option, argument: raw.argument ?? ""))
        case TAPAS_GETOPT_UNKNOWN_LONG:
            failure = Self.unknown(word: raw.argument ?? "")
        case TAPAS_GETOPT_UNKNOWN_LETTER:
            let letter = String(decoding: [UInt8(truncatingIfNeeded: raw.value)], as: UTF8.self)
            failure = UsageError("invalid option -- \(quoted(letter))", showsUsageHint: true)
        case TAPAS_GETOPT_MISSING_ARGUMENT:
            let option = Self.option(number: raw.value)
            let isLong = raw.value >= Self.numberBase
            let what = option?.argument.map { "; give \($0)" } ?? ""
            failure = UsageError(
                isLong
                    ? "option '\(option?.longName ?? "")' requires an argument\(what)"
                    : "option requires an argument -- '\(option?.letter.map(String.init) ?? "")'\(what)",
                showsUsageHint: true)
        case TAPAS_GETOPT_UNWANTED_ARGUMENT:
            failure = UsageError(
                "option '\(Self.option(number: raw.value)?.longName ?? "")' doesn't allow an argument",
                showsUsageHint: true)
        default:
            operandIndex = min(max(Int(raw.operand), 1), operandIndex)
        }
    }

    /// The option for a number or letter from getopt.
    private static func option(number: Int32) -> OptionDescription? {
        if number >= numberBase {
            return OptionName(rawValue: Int(number - numberBase)).map(OptionDescription.of)
        }
        return OptionDescription.table.first { option in
            option.letter?.asciiValue.map { Int32($0) == number } ?? false
        }
    }

    /// The error for a word that is not an option, or an abbreviation of several.
    private static func unknown(word: String) -> UsageError {
        let given = word.hasPrefix("--") ? String(word.dropFirst(2)) : word
        let stem = given.prefix { $0 != "=" }
        let matches = OptionDescription.table.flatMap(\.longNames).filter { !stem.isEmpty && $0.hasPrefix(stem) }
        if matches.count > 1 {
            let possibilities = matches.map { "'--\($0)'" }.joined(separator: " ")
            return UsageError(
                "option \(quoted("--" + given)) is ambiguous; possibilities: \(possibilities)", showsUsageHint: true)
        }
        let advice = nearest(to: stem).map { "; did you mean '--\($0)'?" } ?? ""
        return UsageError("unrecognized option \(quoted("--" + given))\(advice)", showsUsageHint: true)
    }

    /// The option that a mistyped name most likely means; nil if none is near.
    private static func nearest(to given: Substring) -> String? {
        guard (3...32).contains(given.utf8.count) else { return nil }
        let word = Array(given.utf8)
        let ranked = OptionDescription.table.flatMap(\.longNames).map { name in
            (name: name, distance: editDistance(word, Array(name.utf8)))
        }
        // One mistake for each three letters, at most three.
        return ranked.filter { $0.distance <= min(3, max(1, word.count / 3)) }.min { $0.distance < $1.distance }?.name
    }

    /// The number of letters that must be added, removed, replaced or swapped with their neighbour to turn one word
    /// into the other.
    private static func editDistance(_ a: [UInt8], _ b: [UInt8]) -> Int {
        var before: [Int] = []
        var last = Array(0...b.count)
        for (row, letter) in a.enumerated() {
            var line = [row + 1]
            for (column, other) in b.enumerated() {
                var least = min(line[column], last[column + 1]) + 1
                least = min(least, last[column] + (letter == other ? 0 : 1))
                if row > 0, column > 0, letter == b[column - 1], a[row - 1] == other {
                    least = min(least, before[column - 1] + 1)
                }
                line.append(least)
            }
            (before, last) = (last, line)
        }
        return last[b.count]
    }

    /// Passes strings to C as a null-terminated vector.
    private static func withCStrings<Result>(
        _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result? {
        var storage: [CChar] = []
        var offsets: [Int] = []
        for string in strings {
            offsets.append(storage.count)
            storage.append(contentsOf: string.utf8.lazy.map { CChar(bitPattern: $0) })
            storage.append(0)
        }
        return unsafe storage.withUnsafeMutableBufferPointer { buffer in
            guard let base = buffer.baseAddress else { return nil }
            var vector: [UnsafeMutablePointer<CChar>?] = unsafe offsets.map { unsafe base + $0 }
            unsafe vector.append(nil)
            return unsafe vector.withUnsafeBufferPointer { pointers in
                guard let first = pointers.baseAddress else { return nil }
                return unsafe body(first)
            }
        }
    }
}
