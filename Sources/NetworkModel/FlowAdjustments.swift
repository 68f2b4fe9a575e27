// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// What a change of the host means for existing flows, by the host address of their sockets.
public struct FlowAdjustments: Hashable, Sendable {
    /// Addresses that are gone: TCP connections are reset towards the namespace, datagram flows get new sockets.
    public var gone: Set<IPAddress>
    /// Addresses that stay while the default route has moved to another link.
    ///
    /// Their sockets are bound to the link named here (`SO_BINDTODEVICE`), which keeps their packets on it.
    public var pinned: [IPAddress: String]
    /// Every address that the host has now; nil if that is not known.
    ///
    /// ``gone`` is the difference between two snapshots. An address that came and went between them is in neither, but
    /// a flow may have got it meanwhile. So the kernel is asked about each address of a flow that is not in this set.
    public var present: Set<IPAddress>?

    /// Makes a change; the default affects no flow.
    public init(gone: Set<IPAddress> = [], pinned: [IPAddress: String] = [:], present: Set<IPAddress>? = nil) {
        self.gone = gone
        self.pinned = pinned
        self.present = present
    }

    /// Whether no flow is affected whose address is in a snapshot.
    public var isEmpty: Bool { gone.isEmpty && pinned.isEmpty }
}
