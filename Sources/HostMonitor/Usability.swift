// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

extension HostSnapshot {
    /// Whether a family has an address that the namespace could be given: on a link with carrier, not tentative, not
    /// failed, not deprecated, not temporary, and not link-local unless the user named the link.
    ///
    /// - Parameters:
    ///   - family: The family.
    ///   - name: The only link that counts; nil for all but the loopback one.
    /// - Returns: Whether there is one.
    func isUsable(_ family: AddressFamily, onlyThrough name: String?) -> Bool {
        addresses.contains { address in
            guard address.family == family, address.mayBeGiven(acceptsLinkLocal: name != nil),
                let link = link(address.interface), link.hasCarrier
            else { return false }
            return name.map { $0 == link.name } ?? !link.flags.contains(.loopback)
        }
    }
}

extension InterfaceAddress {
    fileprivate func mayBeGiven(acceptsLinkLocal: Bool) -> Bool {
        if isTentative || isTemporary || !flags.isDisjoint(with: [.duplicate, .deprecated]) { return false }
        if address.isUnspecified || address.isLoopback || address.isMulticast { return false }
        if let v6 = address.v6, v6.isIPv4Mapped || v6.isIPv4Compatible { return false }
        if family == .v6 { return !address.isLinkLocal && scope.rawValue < RoutingScope.link.rawValue }
        return scope.rawValue < RoutingScope.link.rawValue && (acceptsLinkLocal || !address.isLinkLocal)
    }
}
