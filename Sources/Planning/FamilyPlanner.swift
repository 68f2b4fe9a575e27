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

    private var explicitGateway: IPAddress? {
        configuration.networkMode == .auto ? configuration.gateways[family] : nil
    }
    private var isManual: Bool { configuration.hasOwnAddressesOnly(family) || explicitGateway != nil }

    /// The family's plan; each decision and warning goes to the report.
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
        prefer(plan.guestAddress?.address, in: &plan)
        warn(of: plan, &report)
        return plan
    }

    private var mode: FamilyMode {
        switch configuration.networkMode {
        case .opaque: return .opaque
        case .transparent: return .transparent(name: configuration.templateInterface ?? "")
        case .auto: break
        }
        if isManual { return .manual }
        return template.map { .template($0.link.index, name: $0.link.name) } ?? .local
    }

    private func warn(of plan: FamilyPlan, _ report: inout Report) {
        var given = plan.addresses.filter { $0.origin == .explicit }.map(\.prefix)
        if configuration.prefixLengths[family] != nil, let guest = plan.guestAddress, !given.contains(guest) {
            given.append(guest)
        }
        for address in given {
            if let warning = unusualGuestAddress(address, gateway: plan.gateway) { report.warn(family, warning) }
        }
        if let guest = plan.guestAddress, guest.address == plan.gateway {
            report.warn(family, .guestIsGateway(guest.address))
        }
    }

    /// Makes the first address the source of new connections if several sources give addresses.
    ///
    /// Otherwise the kernel would choose the one in the router's subnet, or the one with the longest common prefix with
    /// the destination.
    private func prefer(_ address: IPAddress?, in plan: inout FamilyPlan) {
        guard let address, plan.addresses.count > 1, configuration.networkMode == .auto,
            configuration.sources(of: family) != [.template]
        else { return }
        for index in plan.routes.indices
        where plan.routes[index].preferredSource == nil && plan.routes[index].source == nil
            && !(plan.routes[index].isOnLink && !plan.routes[index].isDefault)
        {
            plan.routes[index].preferredSource = address
        }
    }

    // MARK: Router

    private func gateway(_ report: inout Report) -> IPAddress? {
        if let explicitGateway {
            report.note(family, .gateway(explicitGateway, from: .option))
            return explicitGateway
        }
        if configuration.networkMode == .opaque {
            let gateway = Local.gateway(family)
            report.note(family, .gateway(gateway, from: .constant))
            return gateway
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
        if configuration.networkMode == .transparent { return nil }
        let gateway = Local.gateway(family)
        report.note(family, .gateway(gateway, from: .local))
        return gateway
    }

    private func ownAddress(gateway: IPAddress?, _ report: inout Report) -> IPAddress? {
        guard family == .v6 else { return gateway }
        if let gateway, gateway.isLinkLocal { return gateway }
        // A mirrored interface's link-local address is the namespace's.
        let address =
            configuration.networkMode == .transparent
            ? Local.linkLocalIPv6
            : template.flatMap { template in
                snapshot.addresses(of: template.link.index, .v6).first {
                    $0.address.isLinkLocal && !$0.isTentative && !$0.flags.contains(.duplicate)
                }?.address
            } ?? Local.linkLocalIPv6
        report.note(family, .ownAddress(address))
        return address
    }

    // MARK: Routes

    /// The default route that never changes.
    ///
    /// With IPv6 it names its source. Otherwise the kernel would prefer one of the host's addresses, and a connection
    /// from there would end when the host roams. With IPv4 the router's subnet decides.
    private func opaqueDefault(_ report: inout Report) -> Route {
        var route = Route.default(family, via: Local.gateway(family))
        if family == .v6 { route.preferredSource = Local.addressIPv6 }
        report.note(family, .routeAdded(route))
        return route
    }

    /// Whether an address of the plan is the template interface's.
    private func isOfTemplate(_ address: PlannedAddress, _ template: Template) -> Bool {
        address.origin != .explicit
            && snapshot.addresses.contains { $0.interface == template.link.index && $0.address == address.address }
    }

    private func routes(
        addresses: [PlannedAddress], gateway: IPAddress?, _ report: inout Report
    ) -> [Route] {
        if configuration.networkMode == .opaque { return [opaqueDefault(&report)] }
        var routes: [Route] = []
        // A mirrored interface without an address has no routes either.
        if configuration.networkMode == .transparent, addresses.isEmpty { return [] }
        if let template, explicitGateway == nil, configuration.copiesRoutes {
            routes = RouteCopier(
                snapshot: snapshot, family: family, template: template, addresses: addresses,
                areAddressesGiven: !addresses.contains { isOfTemplate($0, template) },
                tables: configuration.networkMode == .transparent ? snapshot.reachedTables(family) : [.main],
                hasIPv6: families.contains(.v6)
            ).copy(&report)
        }
        if configuration.networkMode == .transparent { return routes }
        let wantsDefault = gateway != nil || template?.hasDefault ?? true
        guard wantsDefault, !routes.contains(where: \.isDefault) else { return routes }
        // The kernel refuses a router with the namespace's own address; everything is on the link then.
        let router = gateway.flatMap { gateway in addresses.contains { $0.address == gateway } ? nil : gateway }
        var route = Route.default(family, via: router)
        let connected = addresses.connectedRoutes
        var reachability = Reachability(connected + routes)
        if let router, !reachability.accepts(route) {
            report.note(family, .routerRouteAdded(router))
            let host = Route.host(router)
            if (connected + routes).contains(where: { $0.identity == host.identity }) {
                route.nextHops[0].flags.insert(.onLink)
            } else {
                routes.append(host)
            }
        }
        report.note(family, .routeAdded(route))
        routes.append(route)
        return routes
    }
}
