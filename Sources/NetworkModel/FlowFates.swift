// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// What a change of the host means for flows that exist, by the host address that their sockets have.
public struct FlowFates: Hashable, Sendable {
    /// Addresses that are gone: TCP is reset towards the namespace, datagrams go through fresh sockets.
    public var gone: Set<IPAddress>
    /// Addresses that stay while the default route has moved to another link: their sockets are bound to the link named
    /// here (`SO_BINDTODEVICE`), which keeps their packets on it.
    public var pinned: [IPAddress: String]

    /// Makes fates; without any, all flows are left alone.
    public init(gone: Set<IPAddress> = [], pinned: [IPAddress: String] = [:]) {
        self.gone = gone
        self.pinned = pinned
    }

    /// Whether all flows are left alone.
    public var isEmpty: Bool { gone.isEmpty && pinned.isEmpty }
}
