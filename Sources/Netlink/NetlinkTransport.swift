// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

package import LinuxSystem
package import SystemPackage

/// Carries datagrams between ``NetlinkSocket`` and a kernel: a socket, or in tests a script that answers.
///
/// Only ``wait(until:)`` waits.
package protocol NetlinkTransport: AnyObject {
    /// The port id that the kernel assigned.
    var portID: UInt32 { get }
    /// The descriptor to watch for readability; nil in tests.
    var descriptor: FileDescriptor? { get }

    /// Sends one datagram to the kernel.
    func send(_ datagram: [UInt8]) throws(SystemCallError)

    /// Takes one datagram, if there is one.
    func receive(into buffer: inout [UInt8]) -> NetlinkReception

    /// Waits until there is a datagram or an error to receive.
    ///
    /// - Returns: Whether there is one; false once the deadline has passed.
    func wait(until deadline: MonotonicTime) throws(SystemCallError) -> Bool
}

/// The result of receiving.
package enum NetlinkReception: Hashable, Sendable {
    /// A datagram that is `byteCount` long; longer than the buffer if it was cut off. `sender` is 0 for the kernel.
    case datagram(byteCount: Int, sender: UInt32)
    /// Nothing is there.
    case empty
    /// Messages were lost because the socket's buffer was full (ENOBUFS).
    case overflow
    /// The socket failed.
    case failed(Errno)
}
