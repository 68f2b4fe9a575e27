// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import NetworkTypes
internal import Wire

/// The link of a data path: one of a closed set.
///
/// A switch over the cases costs a comparison for each frame, and needs no witness table and no reference count.
/// (Decision 0012 explains why this is not a generic parameter.)
enum GuestLink: FrameLink, ~Copyable {
    /// A tap device in the guest's network namespace.
    case tap(TapDevice)
    /// A tun device, in a namespace that somebody else configures.
    case tun(TunDevice)
    /// A stream socket, with a virtual machine at the other end.
    case stream(StreamLink)
    /// Rings in a virtual machine's memory.
    case vhostUser(VhostUserLink)
    /// Memory, with a test at the other end.
    case memory(MemoryLink)

    @inline(__always)
    var capabilities: LinkCapabilities {
        switch self {
        case .tap(let link): link.capabilities
        case .tun(let link): link.capabilities
        case .stream(let link): link.capabilities
        case .vhostUser(let link): link.capabilities
        case .memory(let link): link.capabilities
        }
    }

    var hardwareAddress: MACAddress? {
        switch self {
        case .tap(let link): link.hardwareAddress
        case .tun(let link): link.hardwareAddress
        case .stream(let link): link.hardwareAddress
        case .vhostUser(let link): link.hardwareAddress
        case .memory(let link): link.hardwareAddress
        }
    }

    func watch(on loop: EventLoop) throws(SystemCallError) {
        switch self {
        case .tap(let link): try link.watch(on: loop)
        case .tun(let link): try link.watch(on: loop)
        case .stream(let link): try link.watch(on: loop)
        case .vhostUser(let link): try link.watch(on: loop)
        case .memory(let link): link.watch(on: loop)
        }
    }

    func unwatch(on loop: EventLoop) {
        switch self {
        case .tap(let link): link.unwatch(on: loop)
        case .tun(let link): link.unwatch(on: loop)
        case .stream(let link): link.unwatch(on: loop)
        case .vhostUser(let link): link.unwatch(on: loop)
        case .memory(let link): link.unwatch(on: loop)
        }
    }

    @inline(__always)
    func ready(_ token: EventToken, _ readiness: Readiness) {
        switch self {
        case .stream(let link): link.ready(token, readiness)
        case .vhostUser(let link): link.ready(token, readiness)
        default: break
        }
    }

    @inline(__always)
    var hasMore: Bool {
        switch self {
        case .stream(let link): link.hasMore
        case .vhostUser(let link): link.hasMore
        default: false
        }
    }

    @inline(__always)
    func flush() {
        switch self {
        case .stream(let link): link.flush()
        case .vhostUser(let link): link.flush()
        default: break
        }
    }

    @inline(__always)
    func takeLostGuest() -> Bool {
        switch self {
        case .stream(let link): link.takeLostGuest()
        case .vhostUser(let link): link.takeLostGuest()
        default: false
        }
    }

    @inline(__always)
    func takeNewGuest() -> Bool {
        switch self {
        case .stream(let link): link.takeNewGuest()
        case .vhostUser(let link): link.takeNewGuest()
        default: false
        }
    }

    @inline(__always)
    func receive(into arena: inout FrameArena) -> ReceivedFrame {
        switch self {
        case .tap(let link): link.receive(into: &arena)
        case .tun(let link): link.receive(into: &arena)
        case .stream(let link): link.receive(into: &arena)
        case .vhostUser(let link): link.receive(into: &arena)
        case .memory(let link): link.receive(into: &arena)
        }
    }

    @inline(__always)
    var canTransmit: Bool {
        switch self {
        case .tap: true
        case .tun: true
        case .stream(let link): link.canTransmit
        case .vhostUser(let link): link.canTransmit
        case .memory(let link): link.canTransmit
        }
    }

    @inline(__always)
    func transmit(_ frame: UnsafeMutableRawPointer, count: Int, header: VirtioNetHeader) -> Bool {
        switch self {
        case .tap(let link): unsafe link.transmit(frame, count: count, header: header)
        case .tun(let link): unsafe link.transmit(frame, count: count, header: header)
        case .stream(let link): unsafe link.transmit(frame, count: count, header: header)
        case .vhostUser(let link): unsafe link.transmit(frame, count: count, header: header)
        case .memory(let link): unsafe link.transmit(frame, count: count, header: header)
        }
    }

    @inline(__always)
    func transmit(_ pieces: UnsafeMutablePointer<iovec>, count: Int, header: VirtioNetHeader) -> Bool {
        switch self {
        case .tap(let link): unsafe link.transmit(pieces, count: count, header: header)
        case .tun(let link): unsafe link.transmit(pieces, count: count, header: header)
        case .stream(let link): unsafe link.transmit(pieces, count: count, header: header)
        case .vhostUser(let link): unsafe link.transmit(pieces, count: count, header: header)
        case .memory(let link): unsafe link.transmit(pieces, count: count, header: header)
        }
    }

    func setCarrier(_ isOn: Bool) throws(SystemCallError) {
        switch self {
        case .tap(let link): try link.setCarrier(isOn)
        case .tun(let link): link.setCarrier(isOn)
        case .stream(let link): link.setCarrier(isOn)
        case .vhostUser(let link): link.setCarrier(isOn)
        case .memory(let link): link.setCarrier(isOn)
        }
    }

    var showsCarrier: Bool? {
        switch self {
        case .tap(let link): link.showsCarrier
        case .tun(let link): link.showsCarrier
        case .stream(let link): link.showsCarrier
        case .vhostUser(let link): link.showsCarrier
        case .memory(let link): link.showsCarrier
        }
    }
}
