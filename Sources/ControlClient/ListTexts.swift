// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
internal import NetworkTypes

/// `tapasctl flows` for people.
public enum FlowText {
    /// A table with headings and a line for each flow.
    ///
    /// - Parameter flows: the flows.
    /// - Returns: the lines, without their ends.
    public static func lines(_ flows: [JSONValue]) -> [String] {
        var table = TextTable()
        table.rightColumns = [5, 6, 7, 8, 9]
        table.add("PROTO", "GUEST", "REMOTE", "HOST", "STATE", "AGE", "IDLE", "SENT", "RECEIVED", "RTT")
        for flow in flows {
            let interface = flow["host"]?["interface"]?.string.map { "%\($0)" } ?? ""
            table.add(
                flow["protocol"]?.string ?? "?", endpoint(flow["guest"]),
                (flow["direction"]?.string == "inbound" ? "<- " : "-> ") + endpoint(flow["remote"]),
                endpoint(flow["host"]) + interface, flow["state"]?.string ?? "?",
                Readable.duration(flow["age"]?.double), Readable.duration(flow["idle"]?.double),
                amount(flow, "sent"), amount(flow, "received"),
                flow["rtt"]?.double.map { "\(Readable.milliseconds($0 * 1000)) ms" } ?? "-")
        }
        return table.lines
    }

    /// Bytes, with the packets where they are known.
    private static func amount(_ flow: JSONValue, _ name: String) -> String {
        let bytes = Readable.bytes(flow["bytes"]?[name]?.integer)
        return flow["packets"]?[name]?.integer.map { "\(bytes)/\($0)" } ?? bytes
    }

    static func endpoint(_ value: JSONValue?) -> String {
        guard let address = value?["address"]?.string else { return "-" }
        return Readable.endpoint(JSONValueEndpoint(address: address, port: value?["port"]?.integer))
    }
}

/// `tapasctl forward` for people.
public enum ForwardText {
    /// A line for each rule.
    ///
    /// - Parameter answer: the instance's answer.
    /// - Returns: the lines, without their ends.
    public static func lines(_ answer: JSONValue) -> [String] {
        let rules = answer["forwards"]?.array ?? []
        guard !rules.isEmpty else { return ["no forwarding rules"] }
        var table = TextTable()
        for rule in rules {
            table.add(
                rule["direction"]?.string == "inbound" ? "to the namespace" : "from the namespace",
                rule["text"]?.string ?? "?", state(rule))
        }
        return table.lines
    }

    /// A rule in the list of `status`.
    static func phrase(_ rule: JSONValue) -> String {
        let arrow = rule["direction"]?.string == "inbound" ? "to" : "from"
        let state = state(rule)
        return "\(arrow) the namespace: \(rule["text"]?.string ?? "?")" + (state.isEmpty ? "" : ", \(state)")
    }

    private static func state(_ rule: JSONValue) -> String {
        let state = rule["state"]?.string ?? ""
        return rule["cause"]?.string.map { "\(state): \($0)" } ?? state
    }
}

/// `tapasctl dns` for people.
public enum DNSText {
    /// Totals, then a line for each server.
    ///
    /// - Parameter answer: the instance's answer.
    /// - Returns: the lines, without their ends.
    public static func lines(_ answer: JSONValue) -> [String] {
        let forwarded = answer["forwarded_at"]?.strings ?? []
        var lines = [
            forwarded.isEmpty
                ? "no address of the namespace forwards queries"
                : "queries to \(forwarded.joined(separator: ", ")) are forwarded",
            "\(answer["queries"]?.integer ?? 0) queries, \(answer["answers"]?.integer ?? 0) answers, "
                + "\(answer["failures"]?.integer ?? 0) failures"
                + (answer["last_answer_from"]?.string.map { "; the last answer came from \($0)" } ?? ""),
        ]
        var table = TextTable()
        table.rightColumns = [1, 2, 3]
        table.add("SERVER", "QUERIES", "ANSWERS", "FAILURES")
        let servers = answer["servers"]?.array ?? []
        for server in servers {
            table.add(
                (server["address"]?.string ?? "?") + (server["zone"]?.string.map { "%\($0)" } ?? ""),
                server["queries"]?.integer.map(String.init) ?? "-", server["answers"]?.integer.map(String.init) ?? "-",
                server["failures"]?.integer.map(String.init) ?? "-")
        }
        lines += servers.isEmpty ? ["no resolver on the host: queries fail at once"] : table.lines
        return lines.map(\.escapingControlCharacters)
    }
}
