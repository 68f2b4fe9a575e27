// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

extension CommandLineParser {
    /// Checks all options together and makes the invocation.
    ///
    /// - Parameters:
    ///   - arguments: All arguments.
    ///   - operandIndex: Where the operands begin in them.
    /// - Returns: The parsed command line.
    /// - Throws: The first contradiction found.
    consuming func finish(arguments: [String], operandIndex: Int) throws(UsageError) -> Invocation {
        invocation.operandIndex = operandIndex
        let operands = Array(arguments.dropFirst(operandIndex))
        if isForVirtualMachine {
            try settleVirtualMachine(operands: operands)
            try checkForwards()
        } else {
            try refuseVirtualMachineOptions()
            try settleMode(operands: operands)
        }
        try settleProcess()
        try settleSlirp()
        try settleAddresses()
        try settleNetworkMode()
        try settleMTU()
        try settleServices()
        try settleForwards()
        try settleEgress()
        try checkNativeSockets()
        return invocation
    }

    private func checkNativeSockets() throws(UsageError) {
        guard invocation.usesNativeSockets else { return }
        let option = OptionDescription.of(.nativeSockets)
        guard invocation.isSpawn else {
            throw UsageError(option, "only a command that tapas starts can be given sockets; give a command")
        }
        let contradictions: [(OptionName, Bool, String)] = [
            (.noTCP, !invocation.isEnabled(.tcp), "leave one of them out"),
            (.spliceOnly, invocation.spliceOnly, "leave one of them out"),
            (.netnsOnly, invocation.netnsOnly, "the command needs a user namespace of its own; leave one of them out"),
            (.persist, invocation.persists, "a new engine could not take over its sockets; leave one of them out"),
            (.egress, invocation.egress.hasRules, "no rule is asked for sockets of the host; leave one of them out"),
            (
                .maxFlows, invocation.egress.maximumFlows != nil,
                "sockets of the host are not counted; leave one of them out"
            ),
            (
                .maxFlowRate, invocation.egress.maximumFlowRate != nil,
                "sockets of the host are not counted; leave one of them out"
            ),
            (.flowLog, invocation.egress.flowLog != nil, "they are not recorded; leave one of them out"),
            (.learn, invocation.egress.learnPath != nil, "they are not recorded; leave one of them out"),
        ]
        for (name, isGiven, remedy) in contradictions where isGiven {
            throw UsageError(option, "contradicts \(OptionDescription.of(name).displayName); \(remedy)")
        }
    }

    private mutating func settleMode(operands: [String]) throws(UsageError) {
        if let netnsPath {
            if let operand = operands.first {
                throw UsageError(
                    "\(OptionDescription.of(.netns).displayName) \(quoted(netnsPath)) and operand \(quoted(operand)): "
                        + "give one of them")
            }
            invocation.mode = .attachPath(netnsPath)
        } else if operands.count == 1, let operand = operands.first, !operand.isEmpty,
            operand.utf8.allSatisfy({ (0x30...0x39).contains($0) })
        {
            guard let pid = Int32(operand), pid > 0 else {
                throw UsageError("process id \(quoted(operand)): give 1 to \(Int32.max), or a command")
            }
            invocation.mode = .attach(pid: pid)
        } else {
            if operands.count > 1, let first = operands.first, let pid = Int32(first), pid > 0 {
                throw UsageError(
                    "\(quoted(first)) is a process id and \(quoted(operands[1])) follows it: give a process id alone to "
                        + "connect its namespace, or ./\(first) for a command of that name")
            }
            if operands.first == "" { throw UsageError("command '': empty; give a command, or none for a shell") }
            invocation.mode = .spawn(command: operands)
        }
    }

    private func settleProcess() throws(UsageError) {
        if let number = invocation.readyDescriptor, number == invocation.exitDescriptor {
            throw UsageError(
                OptionDescription.of(.exitFD), String(number), "also that of --ready-fd; give two descriptors")
        }
        if invocation.persists, invocation.virtualMachine != nil {
            throw UsageError(
                OptionDescription.of(.persist),
                "only a command or a namespace can be kept, and a virtual machine cannot")
        }
        if invocation.statsInterval != nil, invocation.goesToBackground {
            throw UsageError(OptionDescription.of(.stats), "there is no terminal in the background; add -f")
        }
    }

    private mutating func settleAddresses() throws(UsageError) {
        if let netmask {
            let given =
                addressWithLength.v4
                ?? (invocation.configuration.explicitAddresses(of: .v4).isEmpty ? addressWithLength.v6 : nil)
            if let given {
                throw UsageError(
                    OptionDescription.of(.netmask), netmask.text,
                    "\(quoted(given)) names its prefix length already; leave one of them out")
            }
            invocation.configuration.prefixLengths.v4 = netmask.length
        }
        if let option = copySuppressors.first, !invocation.configuration.configuresNamespace {
            throw UsageError(option, "without effect; add --config-net")
        }
        for option in copySuppressors {
            let instead = option.name == .noCopyRoutes ? "-g/--gateway" : "-a/--address"
            invocation.warnings.append("\(option.displayName) is deprecated; \(instead) implies it")
        }
        if let mac = invocation.configuration.namespaceMAC, mac == invocation.configuration.gatewayMAC {
            throw UsageError(
                OptionDescription.of(.nsMacAddr), mac.description,
                "also the gateway's address; give another one, or another -M/--mac-addr")
        }
    }

    /// Refuses options that contradict `--mode transparent` or `--mode opaque`.
    private func settleNetworkMode() throws(UsageError) {
        let configuration = invocation.configuration
        let mode = configuration.networkMode
        func refuse(_ option: OptionName, _ isGiven: Bool, _ remedy: String = "leave one of them out")
            throws(UsageError)
        {
            guard isGiven else { return }
            throw UsageError(
                OptionDescription.of(.mode), mode.rawValue,
                "contradicts \(OptionDescription.of(option).displayName); \(remedy)")
        }
        guard mode != .auto else { return }
        try refuse(.spliceOnly, invocation.spliceOnly)
        try refuse(.gateway, configuration.gateways != .init(v4: nil, v6: nil))
        try refuse(.netmask, netmask != nil)
        try refuse(.noCopyRoutes, !configuration.copiesRoutes)
        try refuse(.noCopyAddrs, !configuration.copiesAddresses)
        guard mode == .transparent else { return }
        guard let name = configuration.templateInterface else {
            throw UsageError(OptionDescription.of(.mode), mode.rawValue, "no interface to mirror; add -i NAME")
        }
        try refuse(.address, !configuration.addressSources.isEmpty)
        for family in AddressFamily.allCases {
            let other = configuration.outboundInterfaces[family]
            try refuse(family == .v4 ? .outboundIf4 : .outboundIf6, other != nil && other != name)
        }
    }

    private mutating func settleMTU() throws(UsageError) {
        guard let mtu else { return }
        invocation.configuration.isMTUGiven = true
        let option = OptionDescription.of(.mtu)
        if mtu == 0 {
            invocation.configuration.mtu = nil
            return
        }
        if mtu < 68 {
            throw UsageError(option, String(mtu), "IPv4 needs 68; give more, or 0 to leave the kernel's MTU")
        }
        if mtu < 1280, invocation.configuration.families.contains(.v6) {
            throw UsageError(option, String(mtu), "IPv6 needs 1280; give more, or add -4")
        }
        invocation.configuration.mtu = UInt32(clamping: mtu)
    }

    private mutating func settleServices() throws(UsageError) {
        for (feature, service) in [
            (Invocation.Feature.dhcp, ServiceSettings.Services.dhcpv4), (.dhcpv6, .dhcpv6),
            (.routerAdvertisements, .routerAdvertisements), (.ndp, .neighborDiscovery),
        ] where !invocation.isEnabled(feature) {
            invocation.configuration.services.remove(service)
        }
        if invocation.configuration.configuresNamespace { invocation.disabledFeatures.insert(.routerAdvertisements) }
        if !invocation.splicesInbound, invocation.virtualMachine == nil {
            if invocation.spliceOnly {
                throw UsageError(OptionDescription.of(.noSplice), "contradicts --splice-only; give one of them")
            }
            if invocation.hostLoopbackToNamespaceLoopback {
                throw UsageError(OptionDescription.of(.noSplice), "contradicts --host-lo-to-ns-lo; give one of them")
            }
        }
        if invocation.spliceOnly {
            invocation.hostLoopbackToNamespaceLoopback = true
            invocation.disabledFeatures.formUnion([.icmp, .ndp])
            invocation.configuration.suppressesDNS = true
            invocation.configuration.dnsServers = []
            invocation.configuration.dnsForward = .init(v4: nil, v6: nil)
            invocation.configuration.dnsHost = .init(v4: nil, v6: nil)
            invocation.configuration.searchDomains = []
        }
    }

    private mutating func settleForwards() throws(UsageError) {
        var table = ForwardRuleSet()
        var seen: Set<Invocation.ForwardOption> = []
        for (option, forward, text) in specifications {
            let isRepeated = !seen.insert(forward).inserted
            if text == PortSpecification.none {
                if isRepeated {
                    throw UsageError(
                        option, text, "another \(option.displayName) comes before it; leave one of them out")
                }
                continue
            }
            let feature: Invocation.Feature = forward.transport == .tcp ? .tcp : .udp
            if !invocation.isEnabled(feature) {
                throw UsageError(
                    option, text,
                    "--no-\(feature == .tcp ? "tcp" : "udp") switches the protocol off; leave one of them out")
            }
            let rules: [PortForward]
            do {
                rules = try PortSpecification.parse(
                    text, direction: forward.direction, transport: forward.transport,
                    families: invocation.configuration.families, ephemeralRange: ephemeralRange)
            } catch {
                throw UsageError("\(option.displayName) \(error)")
            }
            do {
                try table.add(rules)
            } catch {
                throw UsageError(option, text, error.description)
            }
        }
        invocation.forwards = invocation.onMirroredInterface(table.forwards)
        // What a virtual machine listens on cannot be seen, so that there is nothing to do for it unasked.
        if invocation.virtualMachine != nil { return }
        invocation.defaultedForwards = Set(
            Invocation.ForwardOption.allCases.filter { forward in
                !seen.contains(forward) && invocation.isEnabled(forward.transport == .tcp ? .tcp : .udp)
            })
    }
}
