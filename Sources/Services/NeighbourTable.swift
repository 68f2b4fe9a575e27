// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// The hardware addresses of the host's neighbours on the templates' links.
public struct NeighbourTable: Hashable, Sendable {
    /// The address of each neighbour that the host's kernel knows.
    public var addresses: [IPAddress: MACAddress]

    /// Makes a table.
    public init(_ addresses: [IPAddress: MACAddress] = [:]) {
        self.addresses = addresses
    }

    /// The hardware address for an address in the namespace.
    ///
    /// It is ours for an address that stands for the host, else the real neighbour's, else the real router's, else
    /// ours.
    ///
    /// - Parameters:
    ///   - target: the requested address.
    ///   - settings: the mapped addresses and the router.
    /// - Returns: the hardware address.
    public func hardwareAddress(of target: IPAddress, _ settings: ServiceSettings) -> MACAddress {
        guard !addresses.isEmpty else { return settings.gatewayMAC }
        let router: IPAddress?
        switch target {
        case .v4(let v4):
            // The server's own address is the router's, or one that no neighbour has.
            if settings.v4.mappedAddresses.contains(v4) { return settings.gatewayMAC }
            router = settings.v4.router.flatMap { settings.v4.mappedAddresses.contains($0) ? nil : .v4($0) }
        case .v6(let v6):
            if settings.v6.mappedAddresses.contains(v6) || v6 == settings.v6.ownAddress && v6 != settings.v6.gateway {
                return settings.gatewayMAC
            }
            router = settings.v6.gateway.flatMap { settings.v6.mappedAddresses.contains($0) ? nil : .v6($0) }
        }
        return addresses[target] ?? router.flatMap { addresses[$0] } ?? settings.gatewayMAC
    }

    /// The neighbours to announce: those that are new or have another hardware address, except for our own addresses.
    ///
    /// - Parameters:
    ///   - old: the table before.
    ///   - settings: the mapped addresses.
    /// - Returns: addresses in a constant order.
    func changes(from old: NeighbourTable, _ settings: ServiceSettings) -> [IPAddress] {
        addresses.keys.filter { address in
            guard addresses[address] != old.addresses[address] else { return false }
            return hardwareAddress(of: address, settings) != settings.gatewayMAC
        }.sorted()
    }
}
