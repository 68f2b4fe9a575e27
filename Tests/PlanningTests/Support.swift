// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning

/// Wishes as a table of tests writes them.
func wishes(_ edit: (inout Configuration) -> Void = { _ in }) -> Configuration {
    var configuration = Configuration()
    configuration.configuresNamespace = true
    edit(&configuration)
    return configuration
}

extension Configuration {
    /// `-a` with an address.
    mutating func address(_ text: String, length: Int? = nil) {
        guard let address = IPAddress(text) else { fatalError("bad address \(text)") }
        addressSources.append(.explicit(address, length: length))
    }

    /// `-g` for the address's family.
    mutating func gateway(_ text: String) {
        guard let address = IPAddress(text) else { fatalError("bad address \(text)") }
        gateways[address.family] = address
    }
}

extension Host {
    /// The plan for this host.
    func plan(
        _ configuration: Configuration = wishes(), previous: NamespacePlan? = nil,
        families: Set<AddressFamily> = [.v4, .v6]
    ) -> NamespacePlan {
        Planning.plan(taken(), configuration, previous: previous, namespaceFamilies: families)
    }
}

extension NamespacePlan {
    /// One family's mode, addresses and routes: what the namespace shows.
    func text(_ family: AddressFamily) -> String {
        let part = families[family]
        let lines = part.addresses.map(\.text) + part.routes.map { $0.text(device: interfaceName) }
        return ([part.mode.description] + lines).joined(separator: "\n")
    }

    /// The reasons of a family as lines.
    func reasonTexts(_ family: AddressFamily?) -> [String] {
        reasons.filter { $0.family == family }.map(\.text)
    }
}

/// The operations from a plan's state to another plan, as lines.
func steps(
    from before: NamespacePlan, to after: NamespacePlan, retaining: Set<IPAddress> = [],
    _ edit: (inout AppliedState) -> Void = { _ in }
) -> [String] {
    var state = applied(before)
    edit(&state)
    return diff(applied: state, plan: after, retaining: retaining).map { $0.text(device: after.interfaceName) }
}

/// The state that a plan makes of a new link.
func applied(_ plan: NamespacePlan) -> AppliedState {
    let link = AppliedState(mac: .defaultGateway)
    return apply(diff(applied: link, plan: plan), to: link)
}

/// The text of the state that a plan makes: what `ip addr` and `ip route` show in the namespace.
func shown(_ plan: NamespacePlan) -> String {
    applied(plan).canonicalText(device: plan.interfaceName)
}
