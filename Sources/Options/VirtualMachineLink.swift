// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// How a virtual machine is connected, or a device that another program configures.
public struct VirtualMachineLink: Hashable, Sendable {
    /// A protocol for frames.
    public enum Transport: Hashable, Sendable {
        /// Frames, each after its length: QEMU's `-netdev stream`.
        case stream
        /// `--vhost-user`.
        case vhostUser
    }

    /// Where the virtual machine is found.
    public enum Place: Hashable, Sendable {
        /// It connects to the first free socket /tmp/passt_N.socket.
        case firstFree
        /// `--socket`: it connects to the socket at this path.
        case path(String)
        /// `--fd`: it is connected to this descriptor already.
        case descriptor(Int32)
    }

    /// The protocol on the socket.
    public var transport = Transport.stream
    /// Where the virtual machine is found.
    public var place = Place.firstFree
    /// Whether the program ends when its client does: `-1`, and `--fd`.
    public var isForOneClient = false

    /// Makes the link of a bare `passt` command line.
    public init() {}

    /// The longest path of a socket, in bytes (`sun_path` in unix(7), less the NUL at its end).
    static let longestPath = 107
}
