// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

extension NetlinkSocket {
    /// Changes a link; of its flags only those that are named (`ip link set`).
    ///
    /// - Throws: The kernel's refusal, or the error of the socket.
    public mutating func setLink(_ index: InterfaceIndex, _ change: LinkChange) throws(NetlinkError) {
        try self.change(change.text(index), LinkMessage.change(index, change))
    }

    /// Adds an address (`ip address add`), or replaces an existing one (`ip address replace`).
    ///
    /// The request contains only those flags that a request may contain. An address with the flag `deprecated` gets a
    /// preferred lifetime of 0 unless `lifetime` is given.
    ///
    /// - Throws: The kernel's refusal (EEXIST if it exists and the addition is exclusive), or the error of the socket.
    public mutating func addAddress(
        _ address: InterfaceAddress, _ addition: NetlinkAddition = .exclusive, lifetime: AddressLifetime? = nil
    ) throws(NetlinkError) {
        let verb = addition == .exclusive ? "add" : "replace"
        try change(
            "address \(verb) \(address.text(lifetime: lifetime))",
            AddressMessage.add(address, addition, lifetime: lifetime))
    }

    /// Deletes an address (`ip address delete`).
    ///
    /// - Throws: The kernel's refusal (EADDRNOTAVAIL if it does not exist), or the error of the socket.
    public mutating func deleteAddress(_ address: InterfaceAddress) throws(NetlinkError) {
        try change("address delete \(address.text())", AddressMessage.delete(address))
    }

    /// Adds a route (`ip route add`), or replaces the one of the same destination, metric and TOS (`ip route replace`).
    ///
    /// - Parameters:
    ///   - route: The route; a next hop that names no link goes out by `interface`.
    ///   - addition: Whether an existing route is an error or is replaced.
    ///   - interface: The link for next hops that name none; nil if each names its own.
    /// - Throws: The kernel's refusal (EEXIST if it exists and the addition is exclusive, ENETUNREACH if its gateway
    ///   cannot be reached yet), or the error of the socket.
    public mutating func addRoute(
        _ route: Route, _ addition: NetlinkAddition = .exclusive, through interface: InterfaceIndex? = nil
    ) throws(NetlinkError) {
        let route = route.resolved(through: interface)
        let verb = addition == .exclusive ? "add" : "replace"
        try change("route \(verb) \(route.text(devices: .index))", RouteMessage.add(route, addition))
    }

    /// Deletes a route (`ip route delete`): the one of the same destination, metric, TOS, protocol and next hops.
    ///
    /// - Throws: The kernel's refusal (ESRCH if it does not exist), or the error of the socket.
    public mutating func deleteRoute(
        _ route: Route, through interface: InterfaceIndex? = nil
    ) throws(NetlinkError) {
        let route = route.resolved(through: interface)
        try change("route delete \(route.text(devices: .index))", RouteMessage.delete(route))
    }
}

/// A change of a routing table (`ip route`).
public enum RouteChange: Hashable, Sendable {
    /// Add a route; it is an error if it exists already.
    case add(Route)
    /// Add a route, or replace the one of the same destination, metric and TOS.
    case replace(Route)
    /// Delete the route of the same destination, metric, TOS, protocol and next hops.
    case delete(Route)
}

extension NetlinkSocket {
    /// Changes many routes with few system calls, in order; a refused change does not keep the others from being made.
    ///
    /// - Parameters:
    ///   - changes: The changes.
    ///   - interface: The link for next hops that name none.
    /// - Returns: The errors by the position of the change; all other changes were made.
    public mutating func changeRoutes(
        _ changes: [RouteChange], through interface: InterfaceIndex
    ) -> [Int: NetlinkError] {
        changeAll(count: changes.count) { index in
            switch changes[index] {
            case .add(let route): RouteMessage.add(route.resolved(through: interface), .exclusive)
            case .replace(let route): RouteMessage.add(route.resolved(through: interface), .replacing)
            case .delete(let route): RouteMessage.delete(route.resolved(through: interface))
            }
        } operation: { index in
            switch changes[index] {
            case .add(let route): "route add \(route.resolved(through: interface).text(devices: .index))"
            case .replace(let route): "route replace \(route.resolved(through: interface).text(devices: .index))"
            case .delete(let route): "route delete \(route.resolved(through: interface).text(devices: .index))"
            }
        }
    }
}

extension Route {
    /// The route with a link for each next hop that names none; a unicast route without next hops gets one.
    package func resolved(through interface: InterfaceIndex?) -> Route {
        guard let interface, nextHopID == nil else { return self }
        var route = self
        if route.nextHops.isEmpty, type == .unicast { route.nextHops = [NextHop(interface: nil)] }
        for index in route.nextHops.indices where route.nextHops[index].interface == nil {
            route.nextHops[index].interface = interface
        }
        return route
    }
}
