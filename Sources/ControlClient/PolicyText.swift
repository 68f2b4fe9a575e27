// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
internal import NetworkTypes

/// What `tapasctl policy` and `tapasctl watch --flows` print for people.
public enum PolicyText {
    /// `policy list`: the rules, the default, the known names.
    public static func list(_ answer: JSONValue) -> [String] {
        var lines: [String] = []
        for rule in answer["rules"]?.array ?? [] {
            lines.append(
                "\(number(rule["number"]))  \(text(rule["verdict"])) \(text(rule["specification"]))  "
                    + "(\(text(rule["origin"])), \(number(rule["hits"])) times)")
        }
        lines.append("otherwise \(text(answer["default"]))  (\(number(answer["default_hits"])) times)")
        for name in answer["names"]?.array ?? [] {
            lines.append(
                "\(text(name["name"])) is \(text(name["address"]))  (\(number(name["expires_in"])) s, "
                    + "\(number(name["flows"])) open flows)")
        }
        return lines
    }

    /// `policy test`: the verdict and its rule.
    public static func test(_ answer: JSONValue) -> [String] {
        let name = answer["name"]?.string.map { " as \($0.escapingControlCharacters)" } ?? ""
        return ["\(text(answer["verdict"])): \(text(answer["rule"]))\(name)"]
    }

    /// `policy reload`: what has changed.
    public static func reloaded(_ answer: JSONValue) -> [String] {
        ["\(number(answer["rules"])) rules; \(number(answer["ended"])) flows reset"]
    }

    /// `watch --flows`: a line; nil for one that only says that the watch has begun.
    public static func flow(_ event: JSONValue) -> String? {
        guard let kind = event["event"]?.string else { return nil }
        var words = [text(event["time"]), kind, text(event["protocol"]), remote(event)]
        if let name = event["name"]?.string { words.append(name) }
        words.append("(\(text(event["rule"])))")
        if let sent = event["bytes_out"]?.integer, let received = event["bytes_in"]?.integer {
            words.append("\(sent) bytes out, \(received) in")
        }
        if let reason = event["reason"]?.string { words.append(reason) }
        return words.joined(separator: " ").escapingControlCharacters
    }

    private static func remote(_ event: JSONValue) -> String {
        let address = text(event["remote_address"])
        guard let port = event["remote_port"]?.integer else { return address }
        return address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)"
    }

    private static func text(_ value: JSONValue?) -> String { (value?.string ?? "?").escapingControlCharacters }

    private static func number(_ value: JSONValue?) -> Int64 { value?.integer ?? 0 }
}
