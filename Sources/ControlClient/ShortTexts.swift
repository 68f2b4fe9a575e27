// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import JSON
internal import NetworkTypes

/// What `tapasctl` prints for people where a line or a text of the instance's own says all.
public enum ShortTexts {
    /// `flows kill`: how many flows were reset.
    public static func killed(_ answer: JSONValue) -> [String] {
        let count = answer["killed"]?.integer ?? 0
        return ["\(count) flow\(count == 1 ? "" : "s") reset"]
    }

    /// `log level`: the level now.
    public static func logLevel(_ answer: JSONValue) -> [String] {
        [(answer["level"]?.string ?? "?").escapingControlCharacters]
    }

    /// `pcap stop`: how many frames the capture has, and how many it lacks.
    public static func captured(_ answer: JSONValue) -> [String] {
        let (count, lost) = (answer["packets"]?.integer ?? 0, answer["lost"]?.integer ?? 0)
        let rest = lost > 0 ? ", \(lost) lost: they could not be written" : ""
        return ["\(count) packet\(count == 1 ? "" : "s") captured\(rest)"]
    }

    /// `metrics`: the text as it is, a line each.
    public static func metrics(_ answer: JSONValue) -> [String] {
        (answer["text"]?.string ?? "").split(separator: "\n").map { String($0).escapingControlCharacters }
    }
}
