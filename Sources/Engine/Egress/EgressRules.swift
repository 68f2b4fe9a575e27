// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Theory of operation
//
// The rules in force are made of two lists, and of nothing else: the command line with the contents of its files, and
// the changes that clients of the control socket have made since. A change stands before the command line, the newest
// first, because it would have no effect behind a rule that matches. With `--persist` the next engine gets the changes as
// lines of a file of rules, and reads the command line's files anew.
//
// syscalls: setup(main): close openat read readlinkat

internal import Forwarding
internal import LinuxSystem
internal import Options
internal import Policy

/// The rules on what may leave, with their origins.
struct EgressRules: Sendable {
    /// A part of the list.
    enum Part: Sendable {
        /// A rule of an option.
        case rule(PolicyRule)
        /// The rules of a file.
        case file(path: String, [PolicyRule])
    }

    /// A rule with its origin, in words.
    struct Entry: Sendable {
        /// The rule.
        var rule: PolicyRule
        /// `--allow`, `--deny`, the file's path, or `tapasctl`.
        var origin: String
    }

    /// The verdict if no rule matches.
    let defaultVerdict: Verdict
    /// The command line.
    private(set) var parts: [Part]
    /// Rules that were added while the program runs, the newest first.
    private(set) var changes: [PolicyRule] = []
    private let deniesSilently: Bool
    private let deniesNamesAsAbsent: Bool
    private let maximumFlows: Int?
    private let maximumFlowRate: UInt64?

    /// The greatest number of rules that clients may add.
    static let mostChanges = 4096

    /// Reads the rules of the command line, with its files.
    ///
    /// - Parameters:
    ///   - request: the command line.
    ///   - added: the rules that clients have added to the engine before this one (``addedText``).
    /// - Throws: One line on the first file that cannot be read or has a wrong line.
    init(_ request: EgressRequest, added: [UInt8] = []) throws(Failure) {
        defaultVerdict = request.defaultVerdict ?? .allow
        deniesSilently = request.deniesSilently
        deniesNamesAsAbsent = request.deniesNamesAsAbsent
        maximumFlows = request.maximumFlows
        maximumFlowRate = request.maximumFlowRate
        parts = []
        for part in request.parts {
            switch part {
            case .rule(let rule): parts.append(.rule(rule))
            case .file(let path): parts.append(.file(path: Self.absolute(path), try Self.read(path)))
            }
        }
        do throws(PolicyError) {
            changes = try RuleFile.read(added, name: "added rules")
        } catch {
            throw Failure("\(error)")
        }
        guard entries.count <= RuleFile.maximumCount else {
            throw Failure("--egress-file: more than \(RuleFile.maximumCount) rules in all; use prefixes or '*.'")
        }
    }

    /// No rules, to which clients may add some.
    init() {
        defaultVerdict = .allow
        deniesSilently = false
        deniesNamesAsAbsent = false
        maximumFlows = nil
        maximumFlowRate = nil
        parts = []
    }

    private static func read(_ path: String) throws(Failure) -> [PolicyRule] {
        let content: [UInt8]
        do throws(SystemCallError) {
            content = try SmallFile.read(path, limit: RuleFile.maximumLength + 1)
        } catch {
            throw Failure("--egress-file '\(path)': cannot read: \(error.errno.explanation)")
        }
        do throws(PolicyError) {
            return try RuleFile.read(content, name: path)
        } catch {
            throw Failure("--egress-file \(error)")
        }
    }

    /// The path from the root, for a client that runs in another folder.
    private static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), let folder = SymbolicLink.target("/proc/self/cwd") else { return path }
        return folder.hasSuffix("/") ? folder + path : folder + "/" + path
    }

    /// All rules in order.
    var entries: [Entry] {
        changes.map { Entry(rule: $0, origin: "tapasctl") }
            + parts.flatMap { part -> [Entry] in
                switch part {
                case .rule(let rule): [Entry(rule: rule, origin: "--\(rule.verdict.rawValue)")]
                case .file(let path, let rules): rules.map { Entry(rule: $0, origin: path) }
                }
            }
    }

    /// The paths of the files.
    var files: [String] {
        parts.compactMap { if case .file(let path, _) = $0 { path } else { nil } }
    }

    /// The rules that clients have added as lines of a file of rules, in the order in which they match.
    var addedText: String { changes.map { "\($0)\n" }.joined() }

    /// Compiles the rules.
    func compiled() -> EgressSettings {
        var settings = EgressSettings(policy: EgressPolicy(rules: entries.map(\.rule), default: defaultVerdict))
        settings.deniesSilently = deniesSilently
        settings.deniesNamesAsAbsent = deniesNamesAsAbsent
        settings.maximumFlows = maximumFlows
        settings.maximumFlowRate = maximumFlowRate
        return settings
    }

    /// Adds a rule before all others; an equal one that was added before moves there.
    ///
    /// - Returns: false if there are too many.
    mutating func add(_ rule: PolicyRule) -> Bool {
        changes.removeAll { $0.specification == rule.specification }
        guard changes.count < Self.mostChanges else { return false }
        changes.insert(rule, at: 0)
        return true
    }

    /// Replaces the rules of a file.
    ///
    /// - Parameters:
    ///   - path: the file; nil for the only one.
    ///   - rules: its rules.
    /// - Returns: false if there is no such file, or several and none is named.
    mutating func replace(_ path: String?, with rules: [PolicyRule]) -> Bool {
        let positions = parts.indices.filter { index in
            guard case .file(let known, _) = parts[index] else { return false }
            return path == nil || known == path
        }
        guard !positions.isEmpty, let name = path ?? (Set(files).count == 1 ? files.first : nil) else { return false }
        for index in positions { parts[index] = .file(path: name, rules) }
        return true
    }
}
