// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
import NetworkTypes

extension NamespacePlan {
    /// The number of lines about what was left out; the rest is counted.
    private static let mostRemarks = 6

    /// The plan in a few lines for people.
    ///
    /// One line for each family has its mode, the cause, and what it has; then come what was left out and why, and the
    /// resolvers. ``reasons`` contains more than that.
    public var summary: [String] {
        let lines = AddressFamily.allCases.map { "\($0): \(families[$0].summary(because: modeReasons($0)))" }
        let remarks = reasons.filter { $0.placement == .remark }.map(\.description)
        let extra = remarks.count - Self.mostRemarks
        guard extra > 1 else { return lines + remarks }
        return lines + remarks.prefix(Self.mostRemarks) + ["and \(extra) more like these (all with --debug)"]
    }

    private func modeReasons(_ family: AddressFamily) -> [String] {
        reasons.filter { $0.family == family && $0.placement == .mode }.map(\.text)
    }
}

extension FamilyPlan {
    fileprivate func summary(because causes: [String]) -> String {
        var words = causes
        switch mode {
        case .off: return causes.joined(separator: "; ")
        // The cause names the interface.
        case .template, .transparent: break
        case .opaque: words.insert("opaque, the same with any host", at: 0)
        case .manual: words.insert("given by options", at: 0)
        case .local: words.insert("local, without the host's network", at: 0)
        }
        if let first = guestAddress ?? addresses.first?.prefix {
            let others = addresses.count - 1
            words.append("address \(first)" + (others > 0 ? " and \(others) more" : ""))
        }
        words.append("\(routes.count) route\(routes.count == 1 ? "" : "s")" + (gateway.map { ", gateway \($0)" } ?? ""))
        return words.joined(separator: "; ")
    }
}
