// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

// Theory of operation.
//
// Only `plan()` contains policy. It is a function of its arguments alone: no clock, no I/O, no memory. So the program
// does after a change of the host what it would do if it started now.
//
// Two further modes are settings (`--mode`): in transparent mode a family equals that of the named interface; in opaque
// mode it never changes. The modes differ only in what is chosen here; everything that follows from a plan is the same
// for all.
//
//     snapshot, configuration ─▶ TemplateChooser ─▶ FamilyPlanner ──▶ TranslationPlanner ─▶ NamespacePlan
//                                 (per family)       AddressPlanner    ServicePlanner
//                                                    RouteCopier
//
// The mode of a family is a result. `manual` means that the user gave its address or its gateway. What was not given
// still comes from the template interface, if there is one, or else from local mode. Explicit options are in force in
// every mode, and an address and a gateway can each be given without the other.

/// The wanted state of the namespace, given the host's network and the user's configuration.
///
/// - Parameters:
///   - snapshot: the host's network now.
///   - configuration: what the user asked for.
///   - previous: the previous plan; only the interface's name is taken from it, which never changes.
///   - namespaceFamilies: the families that the namespace's kernel has.
/// - Returns: The plan with its reasons and warnings; there is one for every snapshot.
/// - Complexity: O(routes + addresses × routes of the template).
public func plan(
    _ snapshot: HostSnapshot, _ configuration: Configuration, previous: NamespacePlan? = nil,
    namespaceFamilies: Set<AddressFamily>
) -> NamespacePlan {
    var report = Report()
    var configuration = configuration
    configuration.mtu = mtu(configuration, snapshot)
    let families = configuration.families.intersection(namespaceFamilies)
    var plans = PerFamily(v4: FamilyPlan(mode: .off), v6: FamilyPlan(mode: .off))
    var templates = PerFamily<Template?>(v4: nil, v6: nil)
    for family in AddressFamily.allCases {
        guard families.contains(family) else {
            let isWanted = configuration.families.contains(family)
            report.note(family, .off(isAskedFor: isWanted), .mode)
            continue
        }
        let chooser = TemplateChooser(snapshot: snapshot, configuration: configuration, family: family)
        templates[family] = chooser.choose(&report)
        if let name = configuration.templateInterface {
            // The same text for both families is one warning.
            if snapshot.link(named: name) == nil { report.warn(nil, .templateAbsent(name)) }
        } else if templates[family] == nil, let name = configuration.outboundInterfaces[family] {
            report.warn(family, .outboundUnusable(name))
        }
        plans[family] = FamilyPlanner(
            snapshot: snapshot, configuration: configuration, family: family, template: templates[family],
            families: families
        ).plan(&report)
    }
    let name = interfaceName(configuration, previous: previous, templates, &report)
    var rules = TranslationPlanner(
        snapshot: snapshot, configuration: configuration, plans: plans, templates: templates
    ).rules(&report)
    let services = ServicePlanner(
        snapshot: snapshot, configuration: configuration, plans: plans, templates: templates, rules: rules
    ).settings(&report)
    if !configuration.configuresNamespace {
        rules.families.v6.guestPrefixes = services.v6.prefixes.filter(\.isAutonomous).map(\.prefix)
    }
    var plan = NamespacePlan(
        interfaceName: name, mtu: configuration.mtu, namespaceMAC: configuration.namespaceMAC, families: plans,
        rules: rules, services: services, reasons: report.reasons, warnings: report.warnings)
    plan.hasKernelLinkLocal = configuration.networkMode == .auto
    return plan
}

/// The namespace's MTU in bytes; nil leaves the kernel's.
///
/// In transparent mode it is the interface's, within the limits of a tap and of IPv6; while the interface is absent, it
/// is 1500.
private func mtu(_ configuration: Configuration, _ snapshot: HostSnapshot) -> UInt32? {
    guard configuration.networkMode == .transparent, !configuration.isMTUGiven else { return configuration.mtu }
    let link = configuration.templateInterface.flatMap { snapshot.link(named: $0) }
    let least: UInt32 = configuration.families.contains(.v6) ? 1280 : 68
    return link.map { min(max($0.mtu, least), 65520) } ?? 1500
}

/// The interface's name: the user's, the previous one, the IPv4 template's, the IPv6 template's, or `tap0`.
private func interfaceName(
    _ configuration: Configuration, previous: NamespacePlan?, _ templates: PerFamily<Template?>,
    _ report: inout Report
) -> String {
    if let name = configuration.interfaceName {
        report.note(nil, .interfaceName(name, from: .option))
        return name
    }
    if let name = previous?.interfaceName { return name }
    switch configuration.networkMode {
    case .auto: break
    case .opaque:
        report.note(nil, .interfaceName("tap0", from: .constant))
        return "tap0"
    case .transparent:
        guard let name = configuration.templateInterface else { break }
        report.note(nil, .interfaceName(name, from: .mirrored))
        return name
    }
    for family in AddressFamily.allCases {
        if let template = templates[family] {
            report.note(nil, .interfaceName(template.link.name, from: .template(family)))
            return template.link.name
        }
    }
    let name = "tap0"
    report.note(nil, .interfaceName(name, from: .fallback))
    return name
}
