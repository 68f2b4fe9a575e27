// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
internal import NetworkTypes

/// `tapasctl status` for people.
public enum StatusText {
    /// The lines.
    ///
    /// - Parameters:
    ///   - status: the instance's answer.
    ///   - style: whether to use colours.
    /// - Returns: the lines, without their ends.
    public static func lines(_ status: JSONValue, _ style: TextStyle) -> [String] {
        let version = status["version"]?.string ?? "?"
        let process = status["pid"]?.integer ?? 0
        var lines = [
            style.paint("tapas \(version), process \(process)", .bold)
                + ", for \(Readable.duration(status["uptime"]?.double)): \(target(status))"
        ]
        var table = TextTable()
        table.add("policy", policy(status))
        if let name = status["interface"]?["name"]?.string {
            table.add("interface", name + (status["interface"]?["mtu"]?.integer.map { ", MTU \($0)" } ?? ""))
        }
        for (name, title) in [("ipv4", "IPv4"), ("ipv6", "IPv6")] {
            if let family = status["families"]?[name] { add(family, title, to: &table) }
        }
        let resolvers = status["resolvers"]?.strings ?? []
        table.add("resolvers", resolvers.isEmpty ? "none" : resolvers.joined(separator: ", "))
        // The default `auto` rules are left out; `forward list` shows them.
        let rules = (status["forwards"]?.array ?? []).filter {
            $0["policy"] != "auto" || $0["state"] != "waiting"
        }
        for (index, rule) in rules.enumerated() { table.add(index == 0 ? "forwards" : "", ForwardText.phrase(rule)) }
        if let flows = status["flows"]?.integer { table.add("flows", "\(flows)") }
        let skipped = (status["skipped"]?.array ?? []).map { item in
            (item["family"]?.string.map { "\(familyTitle($0)): " } ?? "") + (item["text"]?.string ?? "")
        }
        for (index, text) in skipped.enumerated() { table.add(index == 0 ? "skipped" : "", text) }
        for (index, text) in (status["warnings"]?.strings ?? []).enumerated() {
            table.add(index == 0 ? "warnings" : "", text)
        }
        if status["persist"] == true, let restarts = status["restarts"]?.integer {
            table.add(
                "persist", "engine \(status["engine"]?.integer ?? 0), \(restarts) restart\(restarts == 1 ? "" : "s")")
        }
        if let sandbox = status["sandbox"], let landlock = sandbox["landlock"]?.integer {
            let filters = sandbox["filters"] == "log" ? "filters that only log" : "filters"
            table.add("sandbox", filters + (landlock > 0 ? ", Landlock \(landlock)" : ", no Landlock in the kernel"))
        }
        if let change = status["last_change"], change != .null {
            table.add("last change", WatchText.line(change, TextStyle(isColored: false)))
        }
        lines += table.lines
        return lines
    }

    private static func add(_ family: JSONValue, _ title: String, to table: inout TextTable) {
        let mode = family["mode"]?.string ?? "?"
        let name = family["interface"]?.string.map { " \($0)" } ?? ""
        table.add(title, "\(mode)\(name), for \(Readable.duration(family["since_seconds"]?.double))")
        for address in family["addresses"]?.array ?? [] {
            var text = "\(address["prefix"]?.string ?? "?") (\(address["origin"]?.string ?? "?")"
            if let count = address["flows"]?.integer { text += ", \(count) connection\(count == 1 ? "" : "s")" }
            table.add("  address", text + ")")
        }
        if let gateway = family["gateway"]?.string { table.add("  gateway", gateway) }
        if let routes = family["routes"]?.integer, mode != "off" { table.add("  routes", "\(routes)") }
        for reason in family["reasons"]?.strings ?? [] { table.add("  because", reason) }
    }

    /// The command or namespace that has the network, in a few words.
    static func target(_ status: JSONValue) -> String {
        let target = status["target"] ?? .null
        let text: String =
            switch target["kind"]?.string {
            case "command"?:
                "command "
                    + ((target["command"]?.strings ?? []).isEmpty
                        ? "(a shell)" : (target["command"]?.strings ?? []).joined(separator: " "))
            case "process"?: "namespace of process \(target["pid"]?.integer ?? 0)"
            case "path"?: "namespace \(target["path"]?.string ?? "?")"
            case "virtual-machine"?: "virtual machine (\(target["transport"]?.string ?? "?"))"
            default: "?"
            }
        return text.escapingControlCharacters
    }

    private static func policy(_ status: JSONValue) -> String {
        let policy = status["policy"] ?? .null
        var words = [
            policy["configures_namespace"]?.bool == true
                ? "sets addresses and routes in the namespace" : "tells the namespace by DHCP and NDP"
        ]
        if policy["follows_host"]?.bool == true {
            words.append("follows the host (waits \(Readable.duration(policy["hold_down"]?.double)) after a loss)")
        } else {
            words.append("does not follow the host")
        }
        if let template = policy["template"]?.string { words.append("copies \(template) only") }
        return words.joined(separator: ", ")
    }
}

/// "IPv4" for "ipv4".
func familyTitle(_ word: String) -> String {
    switch word {
    case "ipv4": "IPv4"
    case "ipv6": "IPv6"
    default: word
    }
}

extension JSONValue {
    /// The strings of an array of strings.
    var strings: [String] { (array ?? []).compactMap(\.string) }
}

/// `tapasctl watch` for people.
public enum WatchText {
    /// One line for a change: the time, the change on the host, the change in the namespace, the operations, the
    /// duration.
    ///
    /// - Parameters:
    ///   - event: the event.
    ///   - style: whether to use colours.
    /// - Returns: the line, without its end.
    public static func line(_ event: JSONValue, _ style: TextStyle) -> String {
        // The time of day is enough on a terminal; the date is in the JSON.
        let time = event["time"]?.string.flatMap { $0.split(separator: "T").last.map(String.init) } ?? "?"
        var parts: [String] = []
        let changes = event["changes"]?.strings ?? []
        parts.append(changes.isEmpty ? "no difference in the plan" : changes.joined(separator: ", "))
        let operations = event["operation_count"]?.integer ?? 0
        if operations > 0 { parts.append("\(operations) operation\(operations == 1 ? "" : "s")") }
        if let count = event["failures"]?.strings.count, count > 0 { parts.append("\(count) refused") }
        if let ended = event["flows"]?["ended"]?.integer, ended > 0 {
            parts.append("\(ended) flow\(ended == 1 ? "" : "s") reset or moved")
        }
        for pin in event["flows"]?["pinned"]?.array ?? [] {
            parts.append("flows of \(pin["address"]?.string ?? "?") stay on \(pin["interface"]?.string ?? "?")")
        }
        let causes = event["causes"]?.string ?? ""
        var line = "\(causes.isEmpty ? "host" : causes) -> \(parts.joined(separator: "; "))"
        if let times = event["milliseconds"], event["number"]?.integer != 0 || causes != "state" {
            let words = ["settled", "planned", "published", "applied", "total"].map { name in
                "\(name) \(Readable.milliseconds(times[name]?.double))"
            }
            line += " (ms: \(words.joined(separator: ", ")))"
        }
        return style.paint(time.escapingControlCharacters, .dim) + " " + line.escapingControlCharacters
    }
}
