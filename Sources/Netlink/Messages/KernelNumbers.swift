// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import CLinux
internal import Glibc
package import NetworkTypes

extension AddressFamily {
    /// The kernel's number: `AF_INET` or `AF_INET6`.
    package var kernelNumber: UInt8 {
        switch self {
        case .v4: UInt8(truncatingIfNeeded: AF_INET)
        case .v6: UInt8(truncatingIfNeeded: AF_INET6)
        }
    }

    /// The family with a kernel number; nil for any other family.
    package init?(kernelNumber: UInt8) {
        switch Int32(kernelNumber) {
        case AF_INET: self = .v4
        case AF_INET6: self = .v6
        default: return nil
        }
    }
}

/// A multicast group that a socket can subscribe to (`RTNLGRP_*`, rtnetlink(7)).
public struct NetlinkGroup: RawRepresentable, Hashable, Sendable {
    /// The kernel's number.
    public let rawValue: UInt32

    /// Makes a group from the kernel's number.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    private init(_ group: rtnetlink_groups) {
        rawValue = group.rawValue
    }

    /// Links (`RTNLGRP_LINK`).
    public static let link = NetlinkGroup(RTNLGRP_LINK)
    /// IPv4 addresses (`RTNLGRP_IPV4_IFADDR`).
    public static let address4 = NetlinkGroup(RTNLGRP_IPV4_IFADDR)
    /// IPv6 addresses (`RTNLGRP_IPV6_IFADDR`).
    public static let address6 = NetlinkGroup(RTNLGRP_IPV6_IFADDR)
    /// IPv4 routes (`RTNLGRP_IPV4_ROUTE`).
    public static let route4 = NetlinkGroup(RTNLGRP_IPV4_ROUTE)
    /// IPv6 routes (`RTNLGRP_IPV6_ROUTE`).
    public static let route6 = NetlinkGroup(RTNLGRP_IPV6_ROUTE)
    /// IPv4 policy rules (`RTNLGRP_IPV4_RULE`).
    public static let rule4 = NetlinkGroup(RTNLGRP_IPV4_RULE)
    /// IPv6 policy rules (`RTNLGRP_IPV6_RULE`).
    public static let rule6 = NetlinkGroup(RTNLGRP_IPV6_RULE)
    /// Nexthop objects (`RTNLGRP_NEXTHOP`).
    public static let nextHop = NetlinkGroup(RTNLGRP_NEXTHOP)
    /// Options of Router Advertisements, such as resolvers (`RTNLGRP_ND_USEROPT`).
    public static let neighbourOptions = NetlinkGroup(RTNLGRP_ND_USEROPT)
    /// Neighbour entries (`RTNLGRP_NEIGH`).
    public static let neighbour = NetlinkGroup(RTNLGRP_NEIGH)

    /// The groups that a monitor of the host subscribes to.
    public static let hostState: [NetlinkGroup] = [
        .link, .address4, .address6, .route4, .route6, .rule4, .rule6, .nextHop, .neighbourOptions,
    ]
}
