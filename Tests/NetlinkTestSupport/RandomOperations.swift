// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

package import NetworkModel
import NetworkTypes

/// Random operations on a namespace's interface out of small pools, so that addresses, subnets and routers collide.
///
/// The same seed and the same states give the same operations: `netlink-recorder --states` carries them out on a real
/// kernel and writes down what came of each, and the tests carry them out on the simulated one.
package struct RandomOperations {
    private var state: UInt64
    private var isFirst = true

    /// Makes a sequence; it begins by setting the link up.
    package init(seed: UInt64) {
        state = seed
    }

    /// The upper bits of a linear congruential generator (Knuth's MMIX): all that random operations need.
    private mutating func draw() -> UInt64 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return state >> 33
    }

    private mutating func pick<T>(_ values: [T]) -> T {
        values[Int(draw() % UInt64(values.count))]
    }

    private mutating func chance(_ percent: UInt64) -> Bool { draw() % 100 < percent }

    private func parsed<T>(_ value: T?, _ text: String) -> T {
        guard let value else { fatalError("bad text in a test: \(text)") }
        return value
    }

    /// The next operation.
    ///
    /// - Parameter applied: What holds now. Only what ``AppliedState`` shows as text may make a difference here.
    /// - Returns: One that may be refused.
    package mutating func next(_ applied: AppliedState) -> NamespaceOperation {
        if isFirst {
            isFirst = false
            return .setLinkUp
        }
        let addresses = applied.addresses.filter { $0.origin == .ours }.map(\.value).sorted { $0.prefix < $1.prefix }
        let routes = applied.routes.filter { $0.origin == .ours }.map(\.value).sorted { Self.key($0) < Self.key($1) }
        switch draw() % 20 {
        case 0..<6: return .addAddress(address())
        case 6..<8 where !addresses.isEmpty: return .removeAddress(pick(addresses))
        case 8 where !addresses.isEmpty: return .deprecateAddress(pick(addresses))
        case 9 where !addresses.isEmpty: return .restoreAddress(pick(addresses))
        case 10..<12 where !routes.isEmpty: return .removeRoute(pick(routes))
        case 12..<14 where !routes.isEmpty:
            var route = pick(routes)
            route.nextHops[0].gateway = gateway(route.family)
            if route.family == .v4 { route.scope = route.nextHops[0].gateway == nil ? .link : .universe }
            return .replaceRoute(route)
        case 14: return .setMTU(pick([1280, 1400, 1500]))
        case 15 where chance(30): return .setPromoteSecondaries
        default: return .addRoute(route())
        }
    }

    private static func key(_ route: Route) -> String {
        let hops = route.nextHops.map { "\($0.gateway?.description ?? "-") \($0.flags.rawValue)" }
        return "\(route.destination) \(route.metric) \(hops) \(route.preferredSource?.description ?? "-") "
            + "\(route.protocol.rawValue)"
    }

    private mutating func address() -> PlannedAddress {
        let text = pick([
            "10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.1/16", "10.0.1.1/24", "10.0.1.2/24", "192.0.2.5/32",
            "192.0.2.5/31", "2001:db8:1::1/64", "2001:db8:1::2/64", "2001:db8:1::3/128", "2001:db8:2::1/64",
        ])
        var address = PlannedAddress(prefix: parsed(Prefix(text), text))
        if address.family == .v6 { address.flags.insert(.noDuplicateDetection) }
        if chance(20) { address.flags.insert(.noPrefixRoute) }
        return address
    }

    private mutating func gateway(_ family: AddressFamily) -> IPAddress? {
        let texts =
            family == .v4
            ? ["10.0.0.254", "10.0.1.254", "10.9.0.1", "10.0.0.1", "192.0.2.4", ""]
            : ["fe80::1", "2001:db8:1::fe", "2001:db8:9::1", "2001:db8:1::1", ""]
        let text = pick(texts)
        return text.isEmpty ? nil : parsed(IPAddress(text), text)
    }

    private mutating func route() -> Route {
        let text = pick([
            "0.0.0.0/0", "172.16.0.0/12", "172.16.5.0/24", "10.9.0.0/16", "10.9.0.1/32", "10.0.0.0/24",
            "::/0", "2001:db8:9::/48", "2001:db8:9::1/128", "2001:db8:a::/64",
        ])
        let destination = parsed(Prefix(text), text)
        let family = destination.family
        var hop = NextHop(interface: nil, gateway: gateway(family))
        if hop.gateway != nil, chance(20) { hop.flags.insert(.onLink) }
        var route = Route(
            destination: destination, scope: family == .v4 && hop.gateway == nil ? .link : .universe,
            protocol: pick([.boot, .static, .boot]), metric: pick([0, 100, 0]), nextHops: [hop])
        if chance(20) {
            let source = family == .v4 ? pick(["10.0.0.1", "10.0.0.2", "10.0.1.1"]) : "2001:db8:1::1"
            route.preferredSource = parsed(IPAddress(source), source)
        }
        return route
    }
}
