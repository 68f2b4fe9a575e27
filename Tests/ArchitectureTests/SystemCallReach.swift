// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The system calls that a source file reaches: by functions of the C library, of our C files, and by wrappers.
struct SystemCallReach {
    /// The system calls of each function that our C files define.
    private(set) var ours: [String: Set<String>] = [:]
    /// The system calls of each C file.
    private(set) var byCFile: [String: Set<String>] = [:]

    /// Reads our C files.
    ///
    /// - Parameter files: their texts by path.
    init(cFiles files: [String: String]) {
        var direct: [String: (calls: Set<String>, callees: Set<String>)] = [:]
        for (path, text) in files {
            for (name, body) in Self.functions(SourceCode.of(text)) {
                var calls: Set<String> = []
                var callees: Set<String> = []
                for (function, rest) in Self.calls(body) {
                    let number = rest.drop(while: \.isWhitespace)
                    if function == "syscall", number.hasPrefix("SYS_") {
                        calls.insert(String(number.dropFirst(4).prefix { $0.isLetter || $0.isNumber || $0 == "_" }))
                    }
                    calls.formUnion(CallTable.functions[function] ?? [])
                    callees.insert(function)
                }
                direct[name, default: ([], [])].calls.formUnion(calls)
                direct[name]?.callees.formUnion(callees)
                byCFile[path, default: []].formUnion(calls)
            }
        }
        ours = direct.mapValues(\.calls)
        // A function also reaches the system calls of the functions that it calls.
        var hasChanged = true
        while hasChanged {
            hasChanged = false
            for (name, (_, callees)) in direct {
                let reached = callees.reduce(into: ours[name] ?? []) { $0.formUnion(ours[$1] ?? []) }
                if reached != ours[name] {
                    ours[name] = reached
                    hasChanged = true
                }
            }
        }
    }

    /// The system calls that a Swift file reaches.
    ///
    /// - Parameters:
    ///   - text: the file's text.
    ///   - imports: the modules that it imports.
    ///   - room: the functions that other files of its room declare. If one of them has the name of a C function that
    ///     takes pointers, an unqualified call counts as the C function's only after `unsafe`.
    /// - Returns: The names of the calls.
    func calls(ofSwift text: String, imports: Set<String>, room: Set<String> = []) -> Set<String> {
        let code = SourceCode.of(text)
        var found: Set<String> = []
        if !imports.isDisjoint(with: CallTable.modules) {
            let own = Self.declaredFunctions(code)
            let shadowed = room.intersection(CallTable.pointerTaking)
            for (function, _) in Self.calls(code, except: own, onlyUnsafe: shadowed) {
                found.formUnion(ours[function] ?? CallTable.functions[function] ?? [])
            }
        }
        let dense = code.filter { !$0.isWhitespace }
        for (words, calls) in CallTable.wrappers where dense.firstRange(of: words) != nil { found.formUnion(calls) }
        return found
    }

    // MARK: - Reading code

    private static func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
            true
        default: byte >= 0x80
        }
    }

    /// The functions that code calls, with the text after the parenthesis: `name(` and `Glibc.name(`, but not methods
    /// of values, declarations, or unqualified names that the file itself declares.
    private static func calls(
        _ code: String, except own: Set<String> = [], onlyUnsafe shadowed: Set<String> = []
    ) -> [(String, Substring)] {
        let bytes = Array(code.utf8)
        var found: [(String, Substring)] = []
        var start = 0
        while start < bytes.count {
            guard isWord(bytes[start]) else {
                start += 1
                continue
            }
            var end = start
            while end < bytes.count, isWord(bytes[end]) { end += 1 }
            if end < bytes.count, bytes[end] == UInt8(ascii: "(") {
                let name = String(decoding: bytes[start..<end], as: UTF8.self)
                let before = String(decoding: bytes[max(0, start - 12)..<start], as: UTF8.self)
                let isQualified = before.hasSuffix("Glibc.")
                let isMember = before.last == "." && !isQualified
                let isDeclared = before.hasSuffix("func ") || before.hasSuffix("case ")
                let isOurs = own.contains(name) || shadowed.contains(name) && !before.hasSuffix("unsafe ")
                if !isMember, !isDeclared, isQualified || !isOurs {
                    let rest = String(decoding: bytes[(end + 1)..<min(end + 60, bytes.count)], as: UTF8.self)
                    found.append((name, Substring(rest)))
                }
            }
            start = end
        }
        return found
    }

    /// The names behind `func` in code.
    static func declaredFunctions(_ code: String) -> Set<String> {
        var names: Set<String> = []
        let words = code.split { $0 == " " || $0 == "\n" }
        for (word, next) in zip(words, words.dropFirst()) where word == "func" {
            names.insert(String(next.prefix { $0.isLetter || $0.isNumber || $0 == "_" }))
        }
        return names
    }

    /// The functions of C code, each with its body: they begin at the start of a line and end with `}` there.
    private static func functions(_ code: String) -> [(String, String)] {
        var found: [(String, String)] = []
        var head = ""
        var name: String?
        var body = ""
        for line in code.split(separator: "\n", omittingEmptySubsequences: false) {
            if name != nil {
                body += line + "\n"
                if line.hasPrefix("}") {
                    if let name { found.append((name, body)) }
                    name = nil
                }
                continue
            }
            if line.hasPrefix("#") || line.isEmpty {
                head = ""
                continue
            }
            head += line + " "
            guard let brace = head.firstIndex(of: "{") else {
                if line.contains(";") || line.hasPrefix("}") { head = "" }
                continue
            }
            let signature = head[..<brace]
            guard let open = signature.firstIndex(of: "("), !signature.contains("=") else {
                if head.contains("}") { head = "" }
                continue
            }
            let word = signature[..<open].split { $0 == " " || $0 == "*" }.last ?? ""
            body = String(head[brace...]) + "\n"
            if line.hasSuffix("}") || line.hasPrefix("}") {
                found.append((String(word), body))
            } else {
                name = String(word)
            }
            head = ""
        }
        return found
    }
}
