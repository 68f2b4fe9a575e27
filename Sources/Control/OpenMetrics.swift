// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Figures as OpenMetrics text, which Prometheus and its node_exporter read (OpenMetrics 1.0).
///
/// All families of one program are appended to one value; ``text`` is complete at any time.
public struct OpenMetrics: Hashable, Sendable {
    /// The type of a family's figures.
    public enum Kind: String, Hashable, Sendable {
        /// It only increases.
        case counter
        /// It increases and decreases.
        case gauge
    }

    /// One figure: its labels, in order, and its value.
    public struct Sample: Hashable, Sendable {
        /// Names and values.
        public var labels: [Label]
        /// The figure.
        public var value: Double

        /// Makes a figure.
        public init(_ value: Double, _ labels: Label...) {
            self.labels = labels
            self.value = value
        }

        /// Makes a figure of a whole number.
        public init(_ value: some BinaryInteger, _ labels: Label...) {
            self.labels = labels
            self.value = Double(value)
        }
    }

    /// Distinguishes one figure of a family from another.
    public struct Label: Hashable, Sendable {
        /// Letters, digits and `_`.
        public var name: String
        /// Any text.
        public var value: String

        /// Makes a label.
        public init(_ name: String, _ value: String) {
            self.name = name
            self.value = value
        }
    }

    private var lines = ""

    /// Makes text without figures.
    public init() {}

    /// The text, with its end.
    public var text: String { lines + "# EOF\n" }

    /// Appends a family.
    ///
    /// - Parameters:
    ///   - name: its name, without the suffix `_total` of counters.
    ///   - kind: the type of the figures.
    ///   - help: one line of description.
    ///   - samples: the figures; no two have the same labels.
    public mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [Sample]) {
        begin(name, kind.rawValue, help)
        for sample in samples {
            add(kind == .counter ? "\(name)_total" : name, sample.labels, sample.value)
        }
    }

    /// Appends a family of one figure without labels.
    public mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: some BinaryInteger) {
        add(name, kind, help, [Sample(value)])
    }

    /// Appends a histogram.
    ///
    /// - Parameters:
    ///   - name: its name.
    ///   - help: one line of description.
    ///   - buckets: upper bounds in order, each with the number of values at or below it and above the one before.
    ///   - beyond: the number of values above the last bound.
    ///   - sum: the sum of all values.
    public mutating func addHistogram(
        _ name: String, _ help: String, buckets: [(bound: Double, count: UInt64)], beyond: UInt64, sum: Double
    ) {
        begin(name, "histogram", help)
        var count: UInt64 = 0
        for bucket in buckets {
            count += bucket.count
            add("\(name)_bucket", [Label("le", Self.text(bucket.bound))], Double(count))
        }
        count += beyond
        add("\(name)_bucket", [Label("le", "+Inf")], Double(count))
        add("\(name)_sum", [], sum)
        add("\(name)_count", [], Double(count))
    }

    private mutating func begin(_ name: String, _ kind: String, _ help: String) {
        lines += "# TYPE \(name) \(kind)\n# HELP \(name) \(Self.escaped(help))\n"
    }

    private mutating func add(_ name: String, _ labels: [Label], _ value: Double) {
        lines += name
        if !labels.isEmpty {
            let pairs = labels.map { "\($0.name)=\"\(Self.escaped($0.value))\"" }
            lines += "{\(pairs.joined(separator: ","))}"
        }
        lines += " \(Self.text(value))\n"
    }

    /// A number as text: whole numbers without a point.
    private static func text(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 9e15 ? "\(Int64(value))" : "\(value)"
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
