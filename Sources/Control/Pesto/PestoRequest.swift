// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel

/// Reads the input of a `pesto` client, in pieces of any size: whole tables that replace those in force.
///
/// The client sends, for each table, its number, the number of rules and the rules; a byte 0 ends the list. A client
/// that only reads sends nothing. Memory is bounded by the size of the tables.
public struct PestoRequest: Sendable {
    /// The tables that the client may replace.
    private let tables: [PestoTable]
    private var bytes: [UInt8] = []
    private var received: [PestoTable: [PortForward]] = [:]
    /// Whether the byte that ends the list has arrived.
    public private(set) var isComplete = false

    /// Makes a reader for a client that was sent these tables.
    public init(tables: [PestoTable]) {
        self.tables = tables
    }

    /// Adds received bytes.
    ///
    /// - Throws: If the input is invalid; the connection must then be closed, and nothing changes.
    public mutating func take(_ more: some Collection<UInt8>) throws(PestoError) {
        guard !more.isEmpty else { return }
        guard !isComplete else { throw PestoError("bytes after the end of the list") }
        bytes += more
        while try takeTable() {}
        if isComplete, !bytes.isEmpty { throw PestoError("bytes after the end of the list") }
    }

    /// Removes a complete table from the input; false if there is none.
    private mutating func takeTable() throws(PestoError) -> Bool {
        guard !isComplete, let number = bytes.first else { return false }
        if number == 0 {
            bytes.removeFirst()
            isComplete = true
            return false
        }
        guard let table = PestoTable(rawValue: number), tables.contains(table) else {
            throw PestoError("a table \(number), which was not offered")
        }
        guard received[table] == nil else { throw PestoError("table \(table.name) twice") }
        guard bytes.count >= 5 else { return false }
        let count = bytes[1..<5].reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
        guard count <= PestoGreeting.greatestRuleCount else {
            throw PestoError("\(count) rules for table \(table.name); \(PestoGreeting.greatestRuleCount) are possible")
        }
        let end = 5 + Int(count) * PestoRule.length
        guard bytes.count >= end else { return false }
        var rules: [PortForward] = []
        for index in 0..<Int(count) {
            let start = 5 + index * PestoRule.length
            rules.append(try PestoRule.parse(bytes[start..<start + PestoRule.length], in: table))
        }
        received[table] = rules
        bytes.removeFirst(end)
        return true
    }

    /// The client's request when it has shut down its side.
    ///
    /// - Parameter current: the rules in force.
    /// - Returns: the rules that replace them; nil if the client sent nothing. The rules of a table that the client did
    ///   not send stay.
    /// - Throws: If the list has no end.
    public func outcome(current: [PortForward]) throws(PestoError) -> [PortForward]? {
        guard isComplete else {
            if bytes.isEmpty, received.isEmpty { return nil }
            throw PestoError("the list of tables has no end")
        }
        if received.isEmpty { return nil }
        return PestoTable.allCases.flatMap { table in
            received[table] ?? current.filter { $0.direction == table.direction }
        }
    }
}
