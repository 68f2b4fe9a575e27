// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Synchronization

/// The figures of the run: printed as they come, and written as JSON to the file that TAPAS_ROAMING_REPORT names.
enum RoamingReport {
    private static let figures = Mutex<[(name: String, value: String, unit: String)]>([])

    /// Whether the run is the long one: TAPAS_ROAMING_FULL is set.
    static let isFull = environmentVariable("TAPAS_ROAMING_FULL") != nil

    /// Notes a figure.
    ///
    /// - Parameters:
    ///   - name: What was measured.
    ///   - value: The number.
    ///   - unit: Its unit; empty for a count.
    static func note(_ name: String, _ value: Double, _ unit: String) {
        let text = value == value.rounded() && abs(value) < 1e12 ? "\(Int(value))" : value.shortened
        print("figure: \(name): \(text)\(unit.isEmpty ? "" : " ")\(unit)")
        let all = figures.withLock { figures in
            figures.append((name, text, unit))
            return figures
        }
        guard let path = environmentVariable("TAPAS_ROAMING_REPORT"), let file = fopen(path, "w") else { return }
        let lines = all.map { "  {\"name\": \"\($0.name)\", \"value\": \($0.value), \"unit\": \"\($0.unit)\"}" }
        fputs("[\n" + lines.joined(separator: ",\n") + "\n]\n", file)
        fclose(file)
    }
}

extension Double {
    /// Three places after the point.
    fileprivate var shortened: String {
        let thousandths = Int((self * 1000).rounded())
        let rest = String(abs(thousandths) % 1000)
        let sign = thousandths < 0 ? "-" : ""
        return "\(sign)\(abs(thousandths) / 1000).\(String(repeating: "0", count: 3 - rest.count))\(rest)"
    }
}

extension [Double] {
    /// The middle one; 0 of none.
    var median: Double { isEmpty ? 0 : sorted()[count / 2] }
}
