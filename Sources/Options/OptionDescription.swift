// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// An option of the command line: one entry of the table that drives the parser, `--help` and the manual's test.
public struct OptionDescription: Hashable, Sendable {
    /// The headings under which options are listed.
    public enum Group: String, CaseIterable, Sendable {
        /// Process, logging, files.
        case process = "Process and logging"
        /// Which namespaces.
        case namespaces = "Namespaces"
        /// Addresses, routes and the interface.
        case addresses = "Addresses and the interface"
        /// Following the host.
        case following = "Following the host"
        /// DNS, DHCP and NDP.
        case services = "DNS, DHCP and NDP"
        /// The meaning of addresses, and the forwarded protocols.
        case translation = "Translation"
        /// Port forwarding.
        case forwarding = "Port forwarding"
        /// How a virtual machine is connected.
        case virtualMachine = "Virtual machines"
        /// What may leave the namespace, and the record of it.
        case egress = "What may leave"
    }

    /// The option.
    public let name: OptionName
    /// The long names, without dashes; the first is the one shown.
    public let longNames: [String]
    /// The letter, without dash.
    public let letter: Character?
    /// The name of the argument; nil if there is none.
    public let argument: String?
    /// Whether the argument may be left out; it is written with `=` then.
    public let isArgumentOptional: Bool
    /// The heading.
    public let group: Group
    /// One line that describes the option.
    public let help: String
    /// Further long names that are accepted but not shown.
    let hiddenNames: [String]

    init(
        _ name: OptionName, _ longNames: [String], letter: Character? = nil, argument: String? = nil,
        hidden: [String] = [], isArgumentOptional: Bool = false, _ group: Group, _ help: String
    ) {
        self.name = name
        self.longNames = longNames
        self.letter = letter
        self.argument = argument
        self.group = group
        self.help = help
        self.hiddenNames = hidden
        self.isArgumentOptional = isArgumentOptional
    }

    /// The option as messages name it: `-m/--mtu`, `--no-tcp`.
    public var displayName: String {
        let long = longNames.first.map { "--\($0)" } ?? ""
        return letter.map { "-\($0)/\(long)" } ?? long
    }

    /// The option as a user would write it in full: `--mtu`.
    public var longName: String { longNames.first.map { "--\($0)" } ?? "" }

    /// The entry of an option.
    public static func of(_ name: OptionName) -> OptionDescription { table[name.rawValue] }
}

/// The names of the options.
public enum OptionName: Int, CaseIterable, Sendable {
    // Process and logging.
    case debug, trace, quiet, foreground, stderr, logFile, logSize, stats, runas, verbose, confPath, noControl, help
    case version, pcap, pid
    case chrootFallback, seccompLog, persist, readyFD, exitFD
    // Namespaces.
    case netns, userns, netnsOnly, noNetnsQuit
    // Addresses and the interface.
    case configNet, mode, mtu, address, netmask, gateway, interface, outbound, outboundIf4, outboundIf6, ipv4Only,
        ipv6Only
    case macAddr, nsMacAddr, nsIfname, strictAddresses, noCopyRoutes, noCopyAddrs
    // Following the host.
    case noMonitor, holdDown
    // DNS, DHCP and NDP.
    case dns, dnsForward, dnsHost, search, hostname, fqdn, dhcpDNS, dhcpSearch, noDHCPDNS, noDHCPSearch, leaseTime
    case noResolvConf, noCarrierToggle, noDHCP, noDHCPv6, noRA, noNDP
    // Translation.
    case mapHostLoopback, mapGuestAddr, noMapGw, noTCP, noUDP, noICMP, nativeSockets
    // Port forwarding.
    case tcpPorts, udpPorts, tcpNs, udpNs, freebind, hostLoToNsLo, noSplice, spliceOnly
    // Virtual machines.
    case socket, fd, oneOff, vhostUser, slirp, printCapabilities, repairPath, migrateExit, migrateNoLinger
    // What may leave.
    case egress, allow, deny, egressFile, denySilently, deniedNames, flowLog, learn, allowFrom, maxFlows,
        maxFlowRate
}
