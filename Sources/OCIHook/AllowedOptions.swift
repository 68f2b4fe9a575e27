// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import Options

/// Which options an annotation may use.
///
/// An annotation may come with an image. So it must not reach what the user of the host has not allowed: the host's
/// loopback, files, other namespaces, other identities.
public enum AllowedOptions {
    /// The allowed options where no `hook.conf` has `allow-options`.
    public static let standard: Set<OptionName> = [
        .quiet, .debug, .configNet, .mtu, .address, .netmask, .gateway, .ipv4Only, .ipv6Only, .macAddr, .nsMacAddr,
        .nsIfname, .strictAddresses, .noCopyRoutes, .noCopyAddrs, .noMonitor, .holdDown, .dns, .dnsForward, .search,
        .hostname, .fqdn,
        .dhcpDNS,
        .dhcpSearch, .noDHCP, .noDHCPv6, .noRA, .noNDP, .noMapGw, .noTCP, .noUDP, .noICMP, .tcpPorts, .udpPorts,
        .freebind, .noSplice,
    ]

    /// Options that make no sense in a hook, wherever they are given.
    static let impossible: [OptionName: String] = [
        .help: "prints and ends", .version: "prints and ends", .printCapabilities: "prints and ends",
        .foreground: "the hook ends when the network is up, and tapas must stay in the background",
        .pid: "the hook writes the process id itself", .fd: "the hook passes no descriptor on",
    ]
}
