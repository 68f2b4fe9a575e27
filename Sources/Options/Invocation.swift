// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// The parsed command line.
public struct Invocation: Hashable, Sendable {
    /// The command or namespace that gets the network.
    public enum Mode: Hashable, Sendable {
        /// A command in namespaces of its own; a login shell if it is empty.
        ///
        /// ``Invocation/operandIndex`` is the position of its words in the program's arguments: words that are not
        /// UTF-8 are exact only there.
        case spawn(command: [String])
        /// The network namespace of a process.
        case attach(pid: Int32)
        /// A namespace file: the path given with `--netns`, or /run/netns/NAME.
        case attachPath(String)
        /// A virtual machine, or a device that somebody else configures.
        case virtualMachine(VirtualMachineLink)
    }

    /// How much is printed.
    public enum Verbosity: Hashable, Sendable, Comparable {
        /// Warnings and errors (`-q`).
        case quiet
        /// The default: as ``quiet`` with a command, otherwise also a summary.
        case standard
        /// `-v`: also changes while the program runs.
        case verbose
        /// `-d`.
        case debug
        /// `--trace`.
        case trace
    }

    /// A user or group, as given to `--runas`.
    public enum Account: Hashable, Sendable {
        /// A numeric id.
        case id(UInt32)
        /// A name, yet to be looked up.
        case name(String)
    }

    /// Parts that can be switched off.
    public enum Feature: Hashable, Sendable, CaseIterable {
        /// `--no-tcp`.
        case tcp
        /// `--no-udp`.
        case udp
        /// `--no-icmp`: echo.
        case icmp
        /// `--no-dhcp`.
        case dhcp
        /// `--no-dhcpv6`.
        case dhcpv6
        /// `--no-ra`, and `--config-net`.
        case routerAdvertisements
        /// `--no-ndp`, and `--no-icmp`.
        case ndp
    }

    /// The options that forward ports.
    public enum ForwardOption: Hashable, Sendable, CaseIterable {
        /// `-t`.
        case tcpInbound
        /// `-u`.
        case udpInbound
        /// `-T`.
        case tcpOutbound
        /// `-U`.
        case udpOutbound

        /// Which side listens.
        public var direction: ForwardDirection {
            switch self {
            case .tcpInbound, .udpInbound: .inbound
            case .tcpOutbound, .udpOutbound: .outbound
            }
        }

        /// The protocol.
        public var transport: TransportProtocol {
            switch self {
            case .tcpInbound, .tcpOutbound: .tcp
            case .udpInbound, .udpOutbound: .udp
            }
        }
    }

    /// What is given the network.
    public var mode: Mode = .spawn(command: [])
    /// The index of the first operand in the program's arguments; their count if there are none.
    public var operandIndex = 0

    // MARK: Process and logging

    /// `-q`, `-v`, `-d`, `--trace`: with `-q` the last one given counts, otherwise the one that prints most.
    public var verbosity: Verbosity = .standard
    /// `-f`.
    public var foreground = false
    /// `-l`.
    public var logFile: String?
    /// `--log-size` in bytes.
    public var logSize = 1_048_576
    /// `-p`.
    public var capturePath: String?
    /// `-P`.
    public var pidFile: String?
    /// `--runas`: the user.
    public var runAsUser: Account?
    /// `--runas`: the group; nil if only the user was given (its number, or its primary group).
    public var runAsGroup: Account?
    /// `-c`.
    public var controlPath: String?
    /// `--no-control`.
    public var disablesControl = false
    /// `--stats`: the shortest time between two tables.
    public var statsInterval: Duration?
    /// `--chroot-fallback`.
    public var usesChrootFallback = false
    /// `--seccomp-log`.
    public var logsRefusedSystemCalls = false
    /// `--persist`.
    public var persists = false
    /// `--ready-fd`.
    public var readyDescriptor: Int32?
    /// `--exit-fd`.
    public var exitDescriptor: Int32?

    // MARK: Namespaces

    /// `--userns`.
    public var userNamespacePath: String?
    /// `--netns-only`.
    public var netnsOnly = false
    /// Not `--no-netns-quit`.
    public var quitsWithNamespace = true

    // MARK: Following the host

    /// Not `--no-monitor`.
    public var monitorsHost = true
    /// `--hold-down`.
    public var holdDown: Duration = .seconds(2)

    // MARK: Services and translation

    /// Not `--no-resolv-conf`: a command with `--dns-forward` gets a resolv.conf(5) that names that address.
    public var mountsResolver = true

    /// The parts that are switched off, directly or by implication of another option.
    public var disabledFeatures: Set<Feature> = []
    /// The configuration for planning.
    public var configuration = Configuration()

    /// `--native-sockets`: sockets of the host for TCP connections of the command.
    public var usesNativeSockets = false

    // MARK: Forwarding

    /// The requested rules, free of conflicts; without defaults.
    public var forwards: [PortForward] = []
    /// The options that were not given and whose protocol is in use; their default is `auto`.
    public var defaultedForwards: Set<ForwardOption> = []
    /// `--freebind`.
    public var bindsAbsentAddresses = false
    /// Not `--no-splice`.
    public var splicesInbound = true
    /// `--splice-only`: no interface but `lo` in the namespace.
    public var spliceOnly = false
    /// `--host-lo-to-ns-lo`, and `--splice-only`.
    public var hostLoopbackToNamespaceLoopback = false

    // MARK: What may leave

    /// The request for rules on what may leave, and for a record of it.
    public var egress = EgressRequest()

    // MARK: Remarks

    /// Warnings for the user, one line each: deprecated options, values without effect.
    public var warnings: [String] = []

    /// Makes the invocation of a bare command line: a shell.
    public init() {}
}

extension Invocation {
    /// `-H`.
    public var hostname: String? { configuration.hostName }
    /// `--fqdn`.
    public var fqdn: String? { configuration.fullName }
    /// `-S`: nil for that of resolv.conf, empty for none.
    public var searchDomains: [String]? { configuration.searchDomains }

    /// Whether the namespace gets addresses of interfaces other than the template, which `-i` alone would exclude.
    public var showsOtherInterfaces: Bool {
        configuration.addressSources.contains { source in
            switch source {
            case .interface, .all: true
            case .explicit, .template, .linkLocal: false
            }
        }
    }

    /// Whether the command runs in namespaces of its own.
    public var isSpawn: Bool {
        if case .spawn = mode { true } else { false }
    }

    /// How a virtual machine is connected; nil if a namespace gets the network.
    public var virtualMachine: VirtualMachineLink? {
        if case .virtualMachine(let link) = mode { link } else { nil }
    }

    /// Whether the program leaves its terminal after set-up: no command and not `-f`.
    public var goesToBackground: Bool { !isSpawn && !foreground }

    /// The file of the network namespace to join; nil to create one.
    public var networkNamespacePath: String? {
        switch mode {
        case .spawn, .virtualMachine: nil
        case .attach(let pid): "/proc/\(pid)/ns/net"
        case .attachPath(let path): path
        }
    }

    /// The file of the user namespace to join, if any.
    ///
    /// It is that of `--userns`, or the process's own unless `--netns-only` is given.
    public var joinedUserNamespacePath: String? {
        if let userNamespacePath { return userNamespacePath }
        if case .attach(let pid) = mode, !netnsOnly { return "/proc/\(pid)/ns/user" }
        return nil
    }

    /// Whether a part is in use.
    public func isEnabled(_ feature: Feature) -> Bool { !disabledFeatures.contains(feature) }

    /// The rules of the defaults: `auto` for each of ``defaultedForwards``.
    ///
    /// - Parameter ephemeralRange: The ephemeral ports that `auto` leaves out.
    /// - Returns: At most two rules for each option.
    public func defaultForwards(ephemeralRange: ClosedRange<Port>) -> [PortForward] {
        onMirroredInterface(
            ForwardOption.allCases.filter(defaultedForwards.contains).flatMap { option in
                PortSpecification.automatic(
                    direction: option.direction, transport: option.transport, families: configuration.families,
                    ephemeralRange: ephemeralRange)
            })
    }

    /// In transparent mode, restricts inbound rules without an address or interface to the mirrored interface.
    ///
    /// A rule for an address of the host's loopback is unchanged, because only `lo` can reach it.
    func onMirroredInterface(_ rules: [PortForward]) -> [PortForward] {
        guard configuration.networkMode == .transparent, let name = configuration.templateInterface else {
            return rules
        }
        return rules.map { rule in
            guard rule.direction == .inbound, rule.interface == nil, !(rule.address?.isLoopback ?? false) else {
                return rule
            }
            var rule = rule
            rule.interface = name
            return rule
        }
    }
}
