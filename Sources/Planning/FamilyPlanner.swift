// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes

/// Plans one family: mode, addresses, router, routes.
struct FamilyPlanner {
    let snapshot: HostSnapshot
    let configuration: Configuration
    let family: AddressFamily
    let template: Template?
    /// The families in use.
    let families: Set<AddressFamily>

    private var explicitGateway: IPAddress? { configuration.gateways[family] }
    private var isManual: Bool { configuration.addresses[family] != nil || explicitGateway != nil }

    /// The family's plan; each decision and each warning goes to the report.
    func plan(_ report: inout Report) -> FamilyPlan {
        var plan = FamilyPlan(mode: mode)
        report.note(family, .mode(plan.mode))
        plan.gateway = gateway(&report)
        let choice = AddressPlanner(
            snapshot: snapshot, configuration: configuration, family: family, template: template
        ).choose(&report)
        plan.addresses = choice.addresses
        plan.guestAddress = choice.guest
        plan.routes = routes(addresses: choice.addresses, gateway: plan.gateway, &report)
        plan.ownAddress = ownAddress(gateway: plan.gateway, &report)
        if let guest = plan.guestAddress {
            let isGiven = configuration.addresses[family] != nil || configuration.prefixLengths[family] != nil
            if isGiven, let warning = unusualGuestAddress(guest, gateway: plan.gateway) {
                report.warn(family, warning)
            }
            if guest.address == plan.gateway {
                report.warn(family, .guestIsGateway(guest.address))
            }
        }
        return plan
    }

    private var mode: FamilyMode {
        if isManual { return .manual }
        return template.map { .template($0.link.index, name: $0.link.name) } ?? .local
    }

    // MARK: Router

    private func gateway(_ report: inout Report) -> IPAddress? {
        if let explicitGateway {
            report.note(family, .gateway(explicitGateway, from: .option))
            return explicitGateway
        }
        if let template, template.hasDefault {
            let name = template.link.name
            report.note(
                family,
                template.gateway.map { .gateway($0, from: .template(name)) }
                    ?? .noGateway(template: name, hasDefault: true))
            return template.gateway
        }
        if let template, !isManual {
            report.note(family, .noGateway(template: template.link.name, hasDefault: false))
            return nil
        }
        let gateway = Local.gateway(family)
        report.note(family, .gateway(gateway, from: .local))
        return gateway
    }

    private func ownAddress(gateway: IPAddress?, _ report: inout Report) -> IPAddress? {
        guard family == .v6 else { return gateway }
        if let gateway, gateway.isLinkLocal { return gateway }
        let address =
            template.flatMap { template in
                snapshot.addresses(of: template.link.index, .v6).first {
                    $0.address.isLinkLocal && !$0.isTentative && !$0.flags.contains(.duplicate)
                }?.address
            } ?? Local.linkLocalIPv6
        report.note(family, .ownAddress(address))
        return address
    }

    // MARK: Routes

    private func routes(
        addresses: [PlannedAddress], gateway: IPAddress?, _ report: inout Report
    ) -> [Route] {
        var routes: [Route] = []
        if let template, explicitGateway == nil, configuration.copiesRoutes {
            routes = RouteCopier(
                snapshot: snapshot, family: family, template: template, addresses: addresses,
                areAddressesGiven: configuration.addresses[family] != nil, hasIPv6: families.contains(.v6)
            ).copy(&report)
        }
        let wantsDefault = gateway != nil || template?.hasDefault ?? true
        guard wantsDefault, !routes.contains(where: \.isDefault) else { return routes }
        // The kernel refuses a router that is the namespace itself; everything is on the link then.
        let router = gateway.flatMap { gateway in addresses.contains { $0.address == gateway } ? nil : gateway }
        var route = Route.default(family, via: router)
        let connected = addresses.connectedRoutes
        var reachability = Reachability(connected + routes)
        if let router, !reachability.accepts(route) {
            report.note(family, .routerMadeOnLink(router))
            let host = Route.host(router)
            if (connected + routes).contains(where: { $0.identity == host.identity }) {
                route.nextHops[0].flags.insert(.onLink)
            } else {
                routes.append(host)
            }
        }
        report.note(family, .routeMade(route))
        routes.append(route)
        return routes
    }
}
