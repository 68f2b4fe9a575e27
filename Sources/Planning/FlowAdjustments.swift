// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
internal import NetworkTypes

/// The part of a host's state that ``flowAdjustments(from:to:)`` compares: everything except the routes that do not affect
/// the default interface.
///
/// Store this for the next comparison, instead of a large table.
public func flowRelevantPart(of snapshot: HostSnapshot) -> HostSnapshot {
    var flowRelevantPart = snapshot
    flowRelevantPart.routes = snapshot.routes.picked { route in
        route.destination.isDefault || route.destination.contains(HostSnapshot.probe(route.destination.family))
    }
    return flowRelevantPart
}

/// What a change of the host's network means for existing flows.
///
/// A socket does not report that its source address is gone (an idle TCP socket gets no event at all), and an unbound
/// socket follows a better default route with a source address that does not belong there. So both are decided here: a
/// flow whose address is gone is ended, and a flow whose address stays on a link that the default route has left is
/// bound to that link.
///
/// - Parameters:
///   - old: the host before.
///   - new: the host now.
/// - Returns: The adjustments; flows with other addresses are left alone.
public func flowAdjustments(from old: HostSnapshot, to new: HostSnapshot) -> FlowAdjustments {
    var adjustments = FlowAdjustments()
    let now = Set(new.addresses.lazy.filter { !$0.flags.contains(.duplicate) }.map(\.address))
    adjustments.present = now
    for address in old.addresses where !now.contains(address.address) { adjustments.gone.insert(address.address) }
    for family in AddressFamily.allCases {
        guard let before = old.defaultInterface(family), old.link(before) != nil, let link = new.link(before),
            let after = new.defaultInterface(family), after != before, link.hasCarrier
        else { continue }
        for address in new.addresses where address.interface == before && address.family == family {
            adjustments.pinned[address.address] = link.name
        }
    }
    return adjustments
}
