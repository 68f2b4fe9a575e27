// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The options of virtual machines, and the meaning of other options for them. The program serves a virtual machine if it
// is called passt, or if an option says how a virtual machine is connected.

internal import NetworkModel
internal import NetworkTypes

extension CommandLineParser {
    /// The options that need a namespace.
    private static let namespaceOptions: Set<OptionName> = [
        .netns, .userns, .netnsOnly, .noNetnsQuit, .configNet, .nsIfname, .nsMacAddr, .noCopyRoutes, .noCopyAddrs,
        .dhcpDNS, .dhcpSearch, .hostLoToNsLo, .spliceOnly,
    ]

    /// The options that say how a virtual machine is connected.
    private static let linkOptions: Set<OptionName> = [.socket, .fd, .vhostUser]

    /// Whether a virtual machine is served instead of a namespace.
    var isForVirtualMachine: Bool { isCalledPasst || given.contains(where: Self.linkOptions.contains) }

    /// Processes an option of virtual machines.
    mutating func applyVirtualMachine(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .socket:
            let path = try value.path()
            guard path.utf8.count <= VirtualMachineLink.longestPath else {
                throw value.failure(
                    "\(path.utf8.count) bytes; the path of a socket has at most \(VirtualMachineLink.longestPath): "
                        + "give a shorter one")
            }
            machine.place = .path(path)
        case .fd:
            let descriptor = try value.decimal(0...UInt64(Int32.max), "a descriptor")
            if descriptor == 1 || descriptor == 2 {
                throw value.failure("standard output and standard error cannot carry frames; give 0, or 3 and more")
            }
            machine.place = .descriptor(Int32(clamping: descriptor))
        case .oneOff: machine.isForOneClient = true
        case .vhostUser: machine.transport = .vhostUser
        case .repairPath where value.isNone: break
        case .repairPath: throw value.failure("migration is not supported; leave it out, or give 'none'")
        case .migrateExit, .migrateNoLinger:
            throw UsageError(value.option, "migration is not supported; leave it out")
        case .slirp: slirp = (try value.slirpNetwork(), value.text)
        default: break
        }
    }

    /// Refuses options that need a namespace, and sets the defaults of virtual machines.
    mutating func settleVirtualMachine(operands: [String]) throws(UsageError) {
        if let operand = operands.first {
            throw UsageError("operand \(quoted(operand)): a virtual machine's program is not ours to run; leave it out")
        }
        for name in given where Self.namespaceOptions.contains(name) {
            throw UsageError(OptionDescription.of(name), "only for namespaces; leave it out for a virtual machine")
        }
        if case .descriptor = machine.place { machine.isForOneClient = true }
        invocation.mode = .virtualMachine(machine)
        invocation.splicesInbound = false
        invocation.configuration.announcesResolvers =
            !given.contains(.noDHCPDNS) && !invocation.configuration.suppressesDNS
        invocation.configuration.announcesSearchList = !given.contains(.noDHCPSearch)
    }

    /// Refuses options of virtual machines if a namespace is served.
    func refuseVirtualMachineOptions() throws(UsageError) {
        for name in given where [.oneOff].contains(name) {
            throw UsageError(
                OptionDescription.of(name), "only for virtual machines; leave it out, or add --socket PATH")
        }
    }

    /// Refuses rules that need to look into the guest.
    func checkForwards() throws(UsageError) {
        for (option, forward, text) in specifications {
            if forward.direction == .outbound, isCalledPasst || text != PortSpecification.none {
                throw UsageError(
                    option, text, "a virtual machine's loopback is its own; leave it out, its gateway leads to the host"
                )
            }
            let parts = text.split(separator: "/", maxSplits: 1).last ?? ""
            if parts.split(separator: ",").contains("auto") {
                throw UsageError(
                    option, text, "what a virtual machine listens on cannot be seen; name the ports, or give 'all'")
            }
        }
    }

    /// Sets the addresses that slirp makes from the network of `--slirp`, unless other options set them.
    ///
    /// QEMU (net/slirp.c) takes the network's bits and puts 0x202 for the router, 0x203 for the resolver and 0x20f for
    /// the guest behind them, as far as the netmask leaves room. The router's hardware address is 52:55 and its IPv4
    /// address. IPv6 is always fec0::/64: the host is ::2, the resolver ::3, and advertisements come from fe80::2.
    mutating func settleSlirp() throws(UsageError) {
        guard let slirp else { return }
        let option = OptionDescription.of(.slirp)
        if invocation.configuration.networkMode != .auto {
            throw UsageError(
                option, slirp.text,
                "contradicts --mode \(invocation.configuration.networkMode.rawValue); leave one of them out")
        }
        if let netmask {
            throw UsageError(option, slirp.text, "names its length; leave out -n/--netmask \(netmask.text)")
        }
        guard case .v4(let network) = slirp.network.address else { return }
        let mask = Prefix.mask4(slirp.network.length)
        func host(_ number: UInt32) -> IPAddress {
            .v4(IPv4Address(rawValue: network.rawValue & mask | number & ~mask))
        }
        func slirp6(_ number: UInt64) -> IPAddress { .v6(IPv6Address(high: 0xFEC0_0000_0000_0000, low: number)) }
        var configuration = invocation.configuration
        if configuration.addressSources.isEmpty {
            configuration.addressSources = [
                .explicit(host(0x20F), length: slirp.network.length), .explicit(slirp6(0x15), length: 64),
            ]
            configuration.learnsGuestAddress = true
        }
        let routers = PerFamily(
            v4: host(0x202), v6: IPAddress.v6(IPv6Address(high: 0xFE80_0000_0000_0000, low: 2)))
        for family in AddressFamily.allCases where configuration.gateways[family] == nil {
            configuration.gateways[family] = routers[family]
        }
        if configuration.hostLoopbackMappings.v6 == .default, configuration.gatewayMapsToHost {
            configuration.hostLoopbackMappings.v6 = .address(slirp6(2))
        }
        if !configuration.suppressesDNS {
            configuration.dnsForward.v4 = configuration.dnsForward.v4 ?? host(0x203)
            configuration.dnsForward.v6 = configuration.dnsForward.v6 ?? slirp6(3)
        }
        if !given.contains(.macAddr), case .v4(let router)? = configuration.gateways.v4 {
            configuration.gatewayMAC = MACAddress(rawValue: 0x5255 << 32 | UInt64(router.rawValue))
        }
        invocation.configuration = configuration
    }
}

extension OptionValue {
    /// `NET/LEN` of slirp: IPv4, with room for the numbers that slirp gives.
    fileprivate func slirpNetwork() throws(UsageError) -> Prefix {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = parts.first, case .v4(let address)? = IPAddress(first), parts.count == 2,
            let length = Self.decimal(parts[1]).flatMap(Int.init(exactly:)),
            let prefix = Prefix(.v4(address), length: min(length, 32))
        else { throw failure("no IPv4 network; give one like 10.0.2.0/24") }
        guard (8...27).contains(length) else {
            throw failure("slirp's addresses end in .2, .3 and .15: give a prefix length of 8 to 27")
        }
        guard !address.isLoopback, !address.isMulticast, !address.isUnspecified else {
            throw failure("no network for a guest; give one like 10.0.2.0/24")
        }
        return prefix.network
    }
}
