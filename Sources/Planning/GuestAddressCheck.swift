// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// The warning for a guest address that is the network or the broadcast address of its subnet.
///
/// Such an address is used as given, because existing configurations use it, but the user is warned. IPv4 /31 and /32,
/// IPv6 /127 and /128 are exempt, and so is an IPv6 address whose host part is all ones.
///
/// - Parameters:
/// - guest: the guest's address with its prefix length.
/// - gateway: the guest's router, which the example in the warning avoids.
/// - Returns: The reason for a warning, or nil.
public func unusualGuestAddress(_ guest: Prefix, gateway: IPAddress?) -> Reason.Cause? {
    guard guest.length < guest.family.addressBitCount - 1 else { return nil }
    let isBroadcast = guest.family == .v4 && !guest.isNetworkAddress && guest.isBroadcastAddress
    guard guest.isNetworkAddress || isBroadcast else { return nil }
    return .unusualGuestAddress(
        guest, isBroadcast: isBroadcast, example: usableExample(in: guest, avoiding: gateway))
}

/// An address in a subnet that a host may have: with the host part 0.0.2.15, as QEMU assigns it, else the first free
/// one.
private func usableExample(in guest: Prefix, avoiding gateway: IPAddress?) -> Prefix? {
    let candidates: [IPAddress]
    switch guest.network.address {
    case .v4(let network):
        let hostMask = ~Prefix.mask4(guest.length)
        let numbers: [UInt32] = [0x20F & hostMask, 1, 2, 3]
        candidates = numbers.map { .v4(IPv4Address(rawValue: network.rawValue | $0)) }
    case .v6(let network):
        candidates = [0x15, 1, 2, 3].map { .v6(IPv6Address(high: network.high, low: network.low | $0)) }
    }
    return candidates.lazy.filter { $0 != gateway && guest.contains($0) }
        .compactMap { Prefix($0, length: guest.length) }
        .first { !$0.isNetworkAddress && !$0.isBroadcastAddress }
}
