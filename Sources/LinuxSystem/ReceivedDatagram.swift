// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// A datagram with its source and destination, as one room hands it to another.
public struct ReceivedDatagram: Sendable {
    /// The sender.
    public var peer: Endpoint
    /// The destination, as far as answers can be sent from there.
    public var local: Endpoint
    /// The payload.
    public var bytes: [UInt8]

    /// Makes a datagram.
    public init(peer: Endpoint, local: Endpoint, bytes: [UInt8]) {
        self.peer = peer
        self.local = local
        self.bytes = bytes
    }

    /// Copies a datagram out of a receive buffer.
    public init(peer: Endpoint, local: Endpoint, payload: UnsafeRawPointer, count: Int) {
        self.peer = peer
        self.local = local
        unsafe bytes = [UInt8](UnsafeRawBufferPointer(start: payload, count: count))
    }
}
