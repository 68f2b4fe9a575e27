// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Services
import Testing

/// Settings of a namespace at .15 behind a gateway at .2, both families.
func makeSettings(_ edit: (inout ServiceSettings) -> Void = { _ in }) -> ServiceSettings {
    var settings = ServiceSettings()
    settings.services = .all
    settings.mtu = 65520
    settings.v4.isEnabled = true
    settings.v4.guestAddress = Prefix("192.0.2.15/24")
    settings.v4.serverAddress = IPv4Address("192.0.2.2")
    settings.v4.router = IPv4Address("192.0.2.2")
    settings.v4.guestAddresses = [IPv4Address(192, 0, 2, 15)]
    settings.v4.ownAddresses = [IPv4Address(192, 0, 2, 2), IPv4Address(192, 0, 2, 3), IPv4Address(192, 0, 2, 4)]
    settings.v4.mappedAddresses = settings.v4.ownAddresses
    settings.v6.isEnabled = true
    settings.v6.guestAddress = Prefix("2001:db8::15/64")
    settings.v6.ownAddress = IPv6Address("fe80::1")
    settings.v6.gateway = IPv6Address("fe80::1")
    settings.v6.isDefaultRouter = true
    settings.v6.prefixes = advertised("2001:db8::/64")
    settings.v6.guestAddresses = [IPv6Address(high: 0x2001_0DB8 << 32, low: 0x15)]
    settings.v6.mappedAddresses = [IPv6Address(high: 0xFE80 << 48, low: 1)]
    edit(&settings)
    return settings
}

/// On-link and autonomous prefixes.
func advertised(_ texts: String...) -> [ServiceSettings.AdvertisedPrefix] {
    texts.compactMap { Prefix($0) }.map { .init($0, isOnLink: true, isAutonomous: true) }
}

/// A key whose secret is 16 bytes of one value.
func makeKey(_ byte: UInt64 = 0xAB) -> ReconfigurationKey {
    ReconfigurationKey(random: (byte &* 0x0101_0101_0101_0101, byte &* 0x0101_0101_0101_0101), counter: 7)
}

/// All services at once, from the time 0.
func makeServices(_ settings: ServiceSettings = makeSettings()) -> GuestServices {
    GuestServices(settings: settings, seed: .init(random: (1, 2, 3, 4, 5), secondsSince1970: 946_684_801), now: 0)
}
