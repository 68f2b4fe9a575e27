// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The lines `// syscalls: PHASE(THREAD, ...): CALL ...` of a source file.
///
///     // syscalls: setup(main): socket bind; running(data-path): recvmmsg
///     // syscalls: running(control): openat read close
///
/// Clauses are separated by `;` or are lines of their own.
struct SystemCallDeclaration {
    /// The threads of each phase: those of docs/architecture.md, and the processes beside the engine.
    ///
    /// `setup` is before the sandbox is closed, `running` after it. A file whose phase is `called` only wraps calls; its
    /// callers declare them.
    static let threads: [String: Set<String>] = [
        "setup": ["main", "namespace", "launcher", "device-opener"],
        "running": [
            "data-path", "control", "ports", "namespace", "init", "resolver-watcher", "native-sockets", "client",
            "hook", "any",
        ],
        "called": ["any"],
    ]

    /// The calls of each phase and thread.
    var calls: [String: Set<String>] = [:]
    /// The parts that cannot be parsed.
    var faults: [String] = []

    /// Whether there is any line.
    var isEmpty: Bool { calls.isEmpty && faults.isEmpty }

    /// All calls.
    var all: Set<String> { calls.values.reduce(into: []) { $0.formUnion($1) } }

    /// Reads the declaration of a text.
    init(_ text: String) {
        for line in text.split(separator: "\n") {
            guard let range = line.firstRange(of: "// syscalls:"), range.lowerBound == line.startIndex else { continue }
            for clause in line[range.upperBound...].split(separator: ";") { read(clause) }
        }
    }

    private mutating func read(_ clause: Substring) {
        let parts = clause.split(separator: ":", maxSplits: 1)
        let head = parts[0].filter { $0 != " " }
        guard parts.count == 2, let open = head.firstIndex(of: "("), head.last == ")" else {
            faults.append("not of the form PHASE(THREAD): CALL ...: \(clause)")
            return
        }
        let phase = String(head[..<open])
        guard let threads = Self.threads[phase] else {
            faults.append("no phase: \(phase)")
            return
        }
        let names = parts[1].split(separator: " ").map(String.init)
        if names.isEmpty { faults.append("no call: \(clause)") }
        for thread in head[head.index(after: open)...].dropLast().split(separator: ",") {
            if !threads.contains(String(thread)) { faults.append("no thread or process of that phase: \(clause)") }
            for name in names where !calls["\(phase)(\(thread))", default: []].insert(name).inserted {
                faults.append("twice in \(phase)(\(thread)): \(name)")
            }
        }
    }
}
