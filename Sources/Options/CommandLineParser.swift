// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

/// Collects options one by one; ``finish(arguments:operandIndex:)`` makes the checks that need all of them.
struct CommandLineParser {
    var invocation = Invocation()
    /// Port specifications, which are parsed when the families are known.
    var specifications: [(option: OptionDescription, forward: Invocation.ForwardOption, text: String)] = []
    var netmask: (length: Int, text: String)?
    /// The first address of a family that came with its prefix length.
    var addressWithLength: PerFamily<String?> = .init(v4: nil, v6: nil)
    var copySuppressors: [OptionDescription] = []
    var netnsPath: String?
    /// The options in the order given.
    var given: [OptionName] = []
    /// What options say of a virtual machine.
    var machine = VirtualMachineLink()
    /// `--slirp`: the network, and as it was written.
    var slirp: (network: Prefix, text: String)?
    /// Whether the program was called passt, which means virtual machines.
    let isCalledPasst: Bool
    var mtu: UInt64?
    let ephemeralRange: ClosedRange<Port>

    init(ephemeralRange: ClosedRange<Port>, program: String = "") {
        self.ephemeralRange = ephemeralRange
        let base = program.split(separator: "/").last ?? ""
        isCalledPasst = base.hasPart("passt") && !base.hasPart("pasta")
    }

    /// Processes an option.
    mutating func apply(_ option: OptionDescription, _ argument: String) throws(UsageError) {
        let value = OptionValue(option: option, text: argument)
        given.append(option.name)
        switch option.group {
        case .process: try applyProcess(value)
        case .namespaces, .following: try applyNamespace(value)
        case .addresses: try applyAddresses(value)
        case .services: try applyServices(value)
        case .translation: try applyTranslation(value)
        case .forwarding: applyForwarding(value)
        case .virtualMachine: try applyVirtualMachine(value)
        case .egress: try applyEgress(value)
        }
    }

    // MARK: - Process and logging

    private mutating func applyProcess(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .debug: invocation.verbosity = max(.debug, invocation.verbosity)
        case .verbose: invocation.verbosity = max(.verbose, invocation.verbosity)
        case .trace: invocation.verbosity = .trace
        case .quiet: invocation.verbosity = .quiet
        case .foreground: invocation.foreground = true
        case .stderr: invocation.warnings.append("-e/--stderr is deprecated and has no effect")
        case .logFile: invocation.logFile = try value.path()
        case .logSize:
            guard let size = OptionValue.cNumber(value.text), (40960...UInt64(UInt32.max)).contains(size) else {
                throw value.failure("give a size in bytes, 40960 to \(UInt32.max)")
            }
            invocation.logSize = Int(size)
        case .stats:
            let seconds = try value.decimal(1...86400, "a number of seconds")
            invocation.statsInterval = .seconds(Int64(seconds))
        case .runas:
            let accounts = try value.accounts()
            invocation.runAsUser = accounts.user
            invocation.runAsGroup = accounts.group
        case .confPath:
            let path = try value.path()
            guard path.utf8.count < 104 else {
                throw value.failure("a socket's path has at most 107 bytes, and another one ends in .ctl: give 103")
            }
            invocation.controlPath = path
            invocation.disablesControl = false
        case .noControl:
            invocation.disablesControl = true
            invocation.controlPath = nil
        case .pcap: invocation.capturePath = try value.path()
        case .pid: invocation.pidFile = try value.path()
        case .chrootFallback: invocation.usesChrootFallback = true
        case .seccompLog: invocation.logsRefusedSystemCalls = true
        case .persist: invocation.persists = true
        case .readyFD: invocation.readyDescriptor = try handedOver(value)
        case .exitFD: invocation.exitDescriptor = try handedOver(value)
        default: break
        }
    }

    /// The number of a descriptor that the calling program has opened.
    private func handedOver(_ value: OptionValue) throws(UsageError) -> Int32 {
        let number = try value.decimal(0...UInt64(Int32.max), "a descriptor")
        if number <= 2 {
            throw value.failure("standard input, output and error have other uses here; give 3 or more")
        }
        return Int32(clamping: number)
    }

    // MARK: - Namespaces, following

    private mutating func applyNamespace(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .netns:
            let text = try value.path()
            if text.contains("/") {
                netnsPath = text
            } else {
                guard text != ".", text != ".." else { throw value.failure("give a path, or a name under /run/netns") }
                netnsPath = "/run/netns/\(text)"
            }
        case .userns:
            invocation.userNamespacePath = try value.path()
            invocation.netnsOnly = false
        case .netnsOnly:
            invocation.netnsOnly = true
            invocation.userNamespacePath = nil
        case .noNetnsQuit: invocation.quitsWithNamespace = false
        case .noMonitor: invocation.monitorsHost = false
        case .holdDown: invocation.holdDown = try value.seconds(upTo: 86400)
        default: break
        }
    }

    // MARK: - Addresses and the interface

    private mutating func applyAddresses(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .configNet: invocation.configuration.configuresNamespace = true
        case .mode:
            guard let mode = NetworkMode(rawValue: value.text) else {
                throw value.failure("no mode; give auto, transparent or opaque")
            }
            invocation.configuration.networkMode = mode
        case .strictAddresses: invocation.configuration.acceptsOtherAddresses = false
        case .mtu: mtu = try value.decimal(0...65521, "an MTU in bytes, or 0 to leave the kernel's")
        case .address:
            let source = try value.addressSource()
            let sources = invocation.configuration.addressSources
            guard sources.count < Configuration.mostAddresses else {
                throw value.failure(
                    "more than \(Configuration.mostAddresses) sources; leave some out, or name their interface")
            }
            if case .explicit(let address, let length) = source {
                try value.refuse(address, [.unspecified, .loopback, .multicast, .broadcast])
                if length != nil, addressWithLength[address.family] == nil {
                    addressWithLength[address.family] = value.text
                }
            }
            if !sources.contains(source) { invocation.configuration.addressSources.append(source) }
        case .netmask: netmask = (try value.netmask(), value.text)
        case .gateway:
            let address = try value.address()
            try value.refuse(address, [.unspecified, .loopback, .multicast, .broadcast])
            invocation.configuration.gateways[address.family] = address
        case .interface: invocation.configuration.templateInterface = try value.interfaceName()
        case .outbound: try applyOutbound(value)
        case .outboundIf4: invocation.configuration.outboundInterfaces.v4 = try value.interfaceName()
        case .outboundIf6: invocation.configuration.outboundInterfaces.v6 = try value.interfaceName()
        case .ipv4Only: invocation.configuration.families = [.v4]
        case .ipv6Only: invocation.configuration.families = [.v6]
        case .macAddr: invocation.configuration.gatewayMAC = try value.hardwareAddress()
        case .nsMacAddr: invocation.configuration.namespaceMAC = try value.hardwareAddress()
        case .nsIfname: invocation.configuration.interfaceName = try value.interfaceName()
        case .noCopyRoutes:
            invocation.configuration.copiesRoutes = false
            copySuppressors.append(value.option)
        case .noCopyAddrs:
            invocation.configuration.copiesAddresses = false
            copySuppressors.append(value.option)
        default: break
        }
    }

    private mutating func applyOutbound(_ value: OptionValue) throws(UsageError) {
        if let v6 = IPv6Address(value.text), v6.isIPv4Mapped || v6.isIPv4Compatible {
            throw value.failure("an IPv4 address in an IPv6 one; give it as IPv4")
        }
        let address = try value.address()
        try value.refuse(address, [.unspecified, .multicast, .broadcast])
        if address.family == .v6 { try value.refuse(address, [.loopback]) }
        invocation.configuration.outboundAddresses[address.family] = address
    }

    // MARK: - DNS, DHCP, NDP

    private mutating func applyServices(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .dns: try applyDNS(value)
        case .dnsForward:
            let address = try value.address()
            try value.refuse(address, [.unspecified, .loopback, .broadcast])
            invocation.configuration.dnsForward[address.family] = address
        case .dnsHost:
            let address = try value.address()
            try value.refuse(address, [.unspecified, .broadcast])
            invocation.configuration.dnsHost[address.family] = address
        case .search: try applySearch(value)
        case .hostname: invocation.configuration.hostName = try value.domainName("a host name")
        case .fqdn: invocation.configuration.fullName = try value.domainName("a fully qualified name")
        case .dhcpDNS: invocation.configuration.announcesResolvers = true
        case .dhcpSearch: invocation.configuration.announcesSearchList = true
        case .noDHCPDNS: invocation.configuration.announcesResolvers = false
        case .noDHCPSearch: invocation.configuration.announcesSearchList = false
        case .leaseTime:
            let seconds = try value.decimal(0...UInt64(UInt32.max - 1), "a number of seconds, or 0 for no end")
            let time = seconds == 0 ? ServiceSettings.infinite : UInt32(clamping: seconds)
            invocation.configuration.leaseTime = time
            invocation.configuration.udhcpcLeaseTime = time
        case .noResolvConf: invocation.mountsResolver = false
        case .noCarrierToggle: invocation.configuration.togglesCarrier = false
        case .noDHCP: invocation.disabledFeatures.insert(.dhcp)
        case .noDHCPv6: invocation.disabledFeatures.insert(.dhcpv6)
        case .noRA: invocation.disabledFeatures.insert(.routerAdvertisements)
        case .noNDP: invocation.disabledFeatures.insert(.ndp)
        default: break
        }
    }

    private mutating func applyDNS(_ value: OptionValue) throws(UsageError) {
        if value.isNone {
            invocation.configuration.suppressesDNS = true
            invocation.configuration.dnsServers = []
            invocation.configuration.dnsForward = .init(v4: nil, v6: nil)
            invocation.configuration.dnsHost = .init(v4: nil, v6: nil)
            return
        }
        guard let address = IPAddress(value.text) else {
            throw value.failure("no IP address; give one like 192.0.2.1 or 2001:db8::1, or 'none'")
        }
        let limit = 3
        if invocation.configuration.dnsServers.filter({ $0.family == address.family }).count == limit {
            invocation.warnings.append(
                "\(value.option.displayName) \(quoted(value.text)) is left out: there are \(limit) \(address.family) "
                    + "resolvers already")
        } else {
            invocation.configuration.dnsServers.append(address)
        }
    }

    private mutating func applySearch(_ value: OptionValue) throws(UsageError) {
        if value.isNone {
            invocation.configuration.searchDomains = []
            return
        }
        let words = value.text.split { $0 == " " || $0 == "\t" || $0 == "\n" }
        guard !words.isEmpty, words.allSatisfy(OptionValue.isDomainName) else {
            throw value.failure("give domains of 1 to 253 characters, separated by blanks, or 'none'")
        }
        let domains = (invocation.configuration.searchDomains ?? []) + words.map(String.init)
        guard domains.count <= 6 else { throw value.failure("more than 6 search domains; leave some out") }
        invocation.configuration.searchDomains = domains
    }

    // MARK: - Translation, forwarding

    private mutating func applyTranslation(_ value: OptionValue) throws(UsageError) {
        switch value.option.name {
        case .mapHostLoopback:
            let mapping = try mapping(value)
            Self.set(mapping, in: &invocation.configuration.hostLoopbackMappings)
            if mapping == .none { invocation.configuration.gatewayMapsToHost = false }
        case .mapGuestAddr: Self.set(try mapping(value), in: &invocation.configuration.guestAddressMappings)
        case .noMapGw: invocation.configuration.gatewayMapsToHost = false
        case .noTCP: invocation.disabledFeatures.insert(.tcp)
        case .noUDP: invocation.disabledFeatures.insert(.udp)
        case .noICMP: invocation.disabledFeatures.formUnion([.icmp, .ndp])
        case .nativeSockets: try applyNativeSockets(value)
        default: break
        }
    }

    private mutating func applyNativeSockets(_ value: OptionValue) throws(UsageError) {
        for word in value.text.split(separator: ",", omittingEmptySubsequences: false) where !value.text.isEmpty {
            switch word {
            case "connect": break
            case "listen":
                throw value.failure("sockets that listen are not handed out; give 'connect', and forward ports with -t")
            default: throw value.failure("no kind of socket; give 'connect', or no value")
            }
        }
        invocation.usesNativeSockets = true
    }

    private func mapping(_ value: OptionValue) throws(UsageError) -> Configuration.Mapping {
        if value.isNone { return .none }
        guard let address = IPAddress(value.text) else {
            throw value.failure("no IP address; give one like 192.0.2.1 or 2001:db8::1, or 'none'")
        }
        try value.refuse(address, [.unspecified, .loopback, .multicast])
        return .address(address)
    }

    private static func set(_ mapping: Configuration.Mapping, in mappings: inout PerFamily<Configuration.Mapping>) {
        if case .address(let address) = mapping {
            mappings[address.family] = mapping
        } else {
            mappings = .init(v4: mapping, v6: mapping)
        }
    }

    private mutating func applyForwarding(_ value: OptionValue) {
        switch value.option.name {
        case .tcpPorts: specifications.append((value.option, .tcpInbound, value.text))
        case .udpPorts: specifications.append((value.option, .udpInbound, value.text))
        case .tcpNs: specifications.append((value.option, .tcpOutbound, value.text))
        case .udpNs: specifications.append((value.option, .udpOutbound, value.text))
        case .freebind: invocation.bindsAbsentAddresses = true
        case .hostLoToNsLo: invocation.hostLoopbackToNamespaceLoopback = true
        case .noSplice: invocation.splicesInbound = false
        case .spliceOnly: invocation.spliceOnly = true
        default: break
        }
    }
}
