// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Forwarding
internal import PortForwarding

/// The table of `--stats`: each line shows how often each kind of descriptor was ready.
struct EventTable {
    /// Lines between two headings.
    private static let linesPerHeading = 20
    /// The width of a column.
    private static let width = 9

    /// A kind of descriptor and how often it was ready.
    struct Column: Hashable {
        var name: String
        var count: UInt64
    }

    /// The kinds with what was counted of them, by the names and in the order of upstream's table.
    ///
    /// Kinds that upstream has and tapas has not (timers, the watch of the namespace) are left out; UDP clients from loopback
    /// to loopback have a column of their own here.
    ///
    /// - Parameters:
    ///   - path: what comes by the tap; nil with `--splice-only`.
    ///   - ports: what comes by forwarded ports; nil without any.
    /// - Returns: the columns.
    static func columns(_ path: Counters?, _ ports: ForwardCounters?) -> [Column] {
        var columns: [Column] = []
        func add(_ name: String, _ count: UInt64?) {
            if let count { columns.append(Column(name: name, count: count)) }
        }
        add("connected TCP socket", path?.tcpEvents)
        add("connected spliced TCP socket", ports?.spliceEvents)
        add("listening TCP socket", ports?.streamListenerEvents)
        add("listening UDP socket", ports?.datagramListenerEvents)
        add("UDP flow socket", path?.udpEvents)
        add("spliced UDP socket", ports?.relayEvents)
        add("ICMP/ICMPv6 ping socket", path?.echoEvents)
        add("/dev/net/tun device", path?.linkEvents)
        return columns
    }

    private var lines = 0
    private var last: [Column]?

    /// The next part of the table.
    ///
    /// - Parameter columns: the counts since the program's start, always of the same kinds.
    /// - Returns: a line, after a heading if one is due; nil if nothing has changed since the last line.
    mutating func next(_ columns: [Column]) -> String? {
        guard columns != last else { return nil }
        var text = lines % Self.linesPerHeading == 0 ? Self.heading(columns) : ""
        for column in columns {
            let number = "\(column.count)"
            text += String(repeating: " ", count: max(Self.width - number.count, 1)) + number
        }
        last = columns
        lines += 1
        return text + "\n"
    }

    /// Each name above the right edge of its column, on a line of its own, with bars below it.
    private static func heading(_ columns: [Column]) -> String {
        var text = ""
        for index in columns.indices {
            for _ in 0..<index { text += String(repeating: " ", count: width - 1) + "|" }
            text += String(repeating: " ", count: width - 1) + columns[index].name + "\n"
        }
        return text
    }
}
