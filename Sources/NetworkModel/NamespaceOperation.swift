// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// One step of reprogramming the namespace's interface: what `diff()` returns, in the order of execution.
///
/// Each step is idempotent: "exists" for an addition and "no such object" for a removal are success, since the state is
/// the wanted one. A step that the kernel refuses is reported and skipped. The next `diff()` of the state read back
/// shows what is still missing.
public enum NamespaceOperation: Hashable, Sendable {
    /// Set the link's hardware address.
    case setMAC(MACAddress)
    /// Set the link's MTU in bytes.
    case setMTU(UInt32)
    /// Set the link up, so that its link-local address skips duplicate detection.
    case setLinkUp
    /// Set the link up without a link-local address, because the plan contains all its addresses.
    case setLinkUpBare
    /// Make secondary IPv4 addresses outlive their primary (`promote_secondaries`).
    case setPromoteSecondaries
    /// Add an address with infinite lifetimes (`RTM_NEWADDR`, create and exclusive).
    case addAddress(PlannedAddress)
    /// Set the preferred lifetime of an address to 0 (`RTM_NEWADDR`, replace).
    case deprecateAddress(PlannedAddress)
    /// Set the lifetimes of a deprecated address to infinite (`RTM_NEWADDR`, replace).
    case restoreAddress(PlannedAddress)
    /// Add a route (`RTM_NEWROUTE`, create and exclusive); next hops go out by the namespace's interface.
    case addRoute(Route)
    /// Replace the route of the same ``Route/identity-swift.property`` (`RTM_NEWROUTE`, create and replace).
    case replaceRoute(Route)
    /// Reset all flows towards the namespace whose namespace address is this one, which is about to be removed.
    case resetFlows(IPAddress)
    /// Remove a route; "no such process" is success.
    case removeRoute(Route)
    /// Remove an address; "cannot assign requested address" is success.
    case removeAddress(PlannedAddress)
}
