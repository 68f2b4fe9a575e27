// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

extension OptionDescription {
    /// The options, in the order of listing; the position of each is its name's raw value (a test checks that).
    public static let table: [OptionDescription] = [
        .init(.debug, ["debug"], letter: "d", .process, "Print debugging messages; undoes --quiet"),
        .init(.trace, ["trace"], .process, "Print a line for every batch of packets; implies --debug"),
        .init(.quiet, ["quiet"], letter: "q", .process, "Print warnings and errors only"),
        .init(.foreground, ["foreground"], letter: "f", .process, "Do not go to the background when attached"),
        .init(.stderr, ["stderr"], letter: "e", .process, "No effect; accepted for compatibility"),
        .init(
            .logFile, ["log-file"], letter: "l", argument: "PATH", .process,
            "Log to a file instead of the system log"),
        .init(.logSize, ["log-size"], argument: "BYTES", .process, "Largest size of the log file (default 1048576)"),
        .init(.stats, ["stats"], argument: "SECONDS", .process, "Print a table of events at most this often"),
        .init(.runas, ["runas"], argument: "UID[:GID]|LOGIN[:GROUP]", .process, "Change to this user and group"),
        .init(
            .verbose, ["verbose"], letter: "v", .process,
            "Print what changes while the program runs, on the terminal, too"),
        .init(
            .confPath, ["conf-path"], letter: "c", argument: "PATH", .process,
            "Control socket for pesto; tapasctl's is PATH.ctl"),
        .init(.noControl, ["no-control"], .process, "No control socket"),
        .init(.help, ["help"], letter: "h", .process, "Print this help and exit"),
        .init(.version, ["version"], .process, "Print the version and exit"),
        .init(
            .pcap, ["pcap"], letter: "p", argument: "FILE", .process,
            "Write the namespace's packets to a capture file"),
        .init(
            .pid, ["pid"], letter: "P", argument: "FILE", .process,
            "Write the process id to a file once all is ready"),
        .init(.chrootFallback, ["chroot-fallback"], .process, "If pivot_root(2) fails, move the mount and chroot(2)"),
        .init(
            .seccompLog, ["seccomp-log"], .process,
            "Log system calls that the filters do not allow, instead of ending"),
        .init(.persist, ["persist"], .process, "Start the engine anew if it crashes, and keep what it holds"),
        .init(.readyFD, ["ready-fd"], argument: "FD", .process, "Write 1 to this descriptor once all is ready"),
        .init(.exitFD, ["exit-fd"], argument: "FD", .process, "End when the other end of this descriptor is closed"),
        .init(.netns, ["netns"], argument: "PATH|NAME", .namespaces, "Attach to this network namespace"),
        .init(.userns, ["userns"], argument: "PATH", .namespaces, "Attach: join this user namespace"),
        .init(.netnsOnly, ["netns-only"], .namespaces, "Neither join nor make a user namespace"),
        .init(.noNetnsQuit, ["no-netns-quit"], .namespaces, "Attach: stay when the namespace is deleted"),
        .init(.configNet, ["config-net"], .addresses, "Set addresses, routes and MTU in the namespace"),
        .init(
            .mode, ["mode"], argument: "auto|transparent|opaque", .addresses,
            "Follow, mirror -i NAME, or never change (default auto)"),
        .init(
            .mtu, ["mtu"], letter: "m", argument: "BYTES", .addresses,
            "MTU in the namespace (default 65520; 0 leaves the kernel's)"),
        .init(
            .address, ["address"], letter: "a", argument: "ADDR[/LEN]|auto|[%]NAME|all|ll", .addresses,
            "Source of the namespace's addresses, repeatable (default auto)"),
        .init(.netmask, ["netmask"], letter: "n", argument: "LEN|MASK", .addresses, "IPv4 prefix length or netmask"),
        .init(
            .gateway, ["gateway"], letter: "g", argument: "ADDR", .addresses,
            "Default gateway of the namespace, once for each family"),
        .init(
            .interface, ["interface"], letter: "i", argument: "NAME", .addresses,
            "Host interface whose addresses and routes are copied"),
        .init(
            .outbound, ["outbound"], letter: "o", argument: "ADDR", .addresses,
            "Source address of host sockets, once for each family"),
        .init(
            .outboundIf4, ["outbound-if4"], argument: "NAME", .addresses,
            "Bind IPv4 host sockets to this interface"),
        .init(
            .outboundIf6, ["outbound-if6"], argument: "NAME", .addresses,
            "Bind IPv6 host sockets to this interface"),
        .init(.ipv4Only, ["ipv4-only"], letter: "4", .addresses, "IPv4 only"),
        .init(.ipv6Only, ["ipv6-only"], letter: "6", .addresses, "IPv6 only"),
        .init(
            .macAddr, ["mac-addr"], letter: "M", argument: "MAC", .addresses,
            "MAC address of the gateway (default 9a:55:9a:55:9a:55)"),
        .init(
            .nsMacAddr, ["ns-mac-addr"], argument: "MAC", .addresses,
            "MAC address of the interface in the namespace"),
        .init(
            .nsIfname, ["ns-ifname"], letter: "I", argument: "NAME", .addresses,
            "Name of the interface in the namespace"),
        .init(.strictAddresses, ["strict-addresses"], .addresses, "Drop what comes from addresses that no -a gives"),
        .init(.noCopyRoutes, ["no-copy-routes"], .addresses, "With --config-net: a default route only"),
        .init(.noCopyAddrs, ["no-copy-addrs"], .addresses, "With --config-net: one address of each family only"),
        .init(.noMonitor, ["no-monitor"], .following, "Configure once; do not follow the host's network"),
        .init(
            .holdDown, ["hold-down"], argument: "SECONDS", .following,
            "Wait after the loss of a family's last address (default 2)"),
        .init(
            .dns, ["dns"], letter: "D", argument: "ADDR|none", .services,
            "Resolver, up to three for each family (default resolv.conf)"),
        .init(
            .dnsForward, ["dns-forward"], argument: "ADDR", .services,
            "Forward DNS queries to this address to the host's resolver"),
        .init(.dnsHost, ["dns-host"], argument: "ADDR", .services, "Send forwarded queries to this resolver"),
        .init(
            .search, ["search"], letter: "S", argument: "LIST|none", .services,
            "Search domains, separated by blanks (default resolv.conf)"),
        .init(
            .hostname, ["hostname"], letter: "H", argument: "NAME", .services,
            "Host name for the namespace and DHCP"),
        .init(.fqdn, ["fqdn"], argument: "NAME", .services, "Fully qualified name for DHCP and DHCPv6"),
        .init(.dhcpDNS, ["dhcp-dns"], .services, "Advertise resolvers by DHCP, DHCPv6 and NDP"),
        .init(.dhcpSearch, ["dhcp-search"], .services, "Advertise the search list by DHCP, DHCPv6 and NDP"),
        .init(.noDHCPDNS, ["no-dhcp-dns"], .services, "Do not advertise resolvers (default)"),
        .init(.noDHCPSearch, ["no-dhcp-search"], .services, "Do not advertise the search list (default)"),
        .init(
            .leaseTime, ["lease-time"], argument: "SECONDS", .services,
            "How long leases and prefixes last (default 120; 0 for ever)"),
        .init(
            .noResolvConf, ["no-resolv-conf"], .services,
            "Leave the command the host's resolv.conf beside --dns-forward"),
        .init(
            .noCarrierToggle, ["no-carrier-toggle"], .services,
            "Do not toggle the carrier to make clients ask again"),
        .init(.noDHCP, ["no-dhcp"], .services, "No DHCP server"),
        .init(.noDHCPv6, ["no-dhcpv6"], .services, "No DHCPv6 server"),
        .init(.noRA, ["no-ra"], .services, "No Router Advertisements"),
        .init(.noNDP, ["no-ndp"], .services, "No NDP responses"),
        .init(
            .mapHostLoopback, ["map-host-loopback"], argument: "ADDR|none", .translation,
            "Address that means the host's loopback (default gateway)"),
        .init(
            .mapGuestAddr, ["map-guest-addr"], argument: "ADDR|none", .translation,
            "Address that means the host's own (default none)"),
        .init(
            .noMapGw, ["no-map-gw"], hidden: ["no-m"], .translation,
            "The gateway's address does not mean the host's loopback"),
        .init(.noTCP, ["no-tcp"], .translation, "No TCP"),
        .init(.noUDP, ["no-udp"], .translation, "No UDP"),
        .init(.noICMP, ["no-icmp"], .translation, "No ICMP echo; implies --no-ndp"),
        .init(
            .nativeSockets, ["native-sockets"], argument: "connect", isArgumentOptional: true, .translation,
            "Hand sockets of the host to the command for TCP connections"),
        .init(
            .tcpPorts, ["tcp-ports"], letter: "t", argument: "SPEC", .forwarding,
            "TCP ports from the host to the namespace (default auto)"),
        .init(
            .udpPorts, ["udp-ports"], letter: "u", argument: "SPEC", .forwarding,
            "UDP ports from the host to the namespace (default auto)"),
        .init(
            .tcpNs, ["tcp-ns"], letter: "T", argument: "SPEC", .forwarding,
            "TCP ports from the namespace's loopback to the host (default auto)"),
        .init(
            .udpNs, ["udp-ns"], letter: "U", argument: "SPEC", .forwarding,
            "UDP ports from the namespace's loopback to the host (default auto)"),
        .init(.freebind, ["freebind"], .forwarding, "Listen on addresses the host does not have (yet)"),
        .init(
            .hostLoToNsLo, ["host-lo-to-ns-lo"], .forwarding,
            "Host loopback connections arrive at the namespace's loopback"),
        .init(.noSplice, ["no-splice"], .forwarding, "Inbound loopback connections pass the tap like others"),
        .init(.spliceOnly, ["splice-only"], .forwarding, "Loopback forwarding only: no interface but lo"),
        .init(
            .socket, ["socket", "socket-path"], letter: "s", argument: "PATH", .virtualMachine,
            "Socket to listen on (default the first free /tmp/passt_N.socket)"),
        .init(
            .fd, ["fd"], letter: "F", argument: "FD", .virtualMachine,
            "Use this descriptor: a connected socket, or a tap or tun"),
        .init(.oneOff, ["one-off"], letter: "1", .virtualMachine, "Quit after one client"),
        .init(.vhostUser, ["vhost-user"], .virtualMachine, "Speak vhost-user on the socket"),
        .init(
            .slirp, ["slirp"], argument: "NET/LEN", .virtualMachine,
            "Addresses as slirp gives them in this network"),
        .init(
            .printCapabilities, ["print-capabilities"], .process,
            "Print what is supported as JSON and exit"),
        .init(
            .repairPath, ["repair-path"], argument: "PATH|none", .virtualMachine,
            "Refused, but for 'none': there is no migration"),
        .init(.migrateExit, ["migrate-exit"], .virtualMachine, "Refused: there is no migration"),
        .init(.migrateNoLinger, ["migrate-no-linger"], .virtualMachine, "Refused: there is no migration"),
        .init(
            .egress, ["egress"], argument: "allow|deny", .egress,
            "Verdict on flows that no rule matches (default allow)"),
        .init(
            .allow, ["allow"], argument: "SPEC", .egress,
            "Allow [tcp|udp|icmp:]DESTINATION[:PORTS]; the first match decides"),
        .init(.deny, ["deny"], argument: "SPEC", .egress, "Deny [tcp|udp|icmp:]DESTINATION[:PORTS]"),
        .init(
            .egressFile, ["egress-file"], argument: "PATH", .egress,
            "Rules from a file, one 'allow SPEC' or 'deny SPEC' a line"),
        .init(.denySilently, ["deny-silently"], .egress, "Drop what is denied instead of refusing it at once"),
        .init(
            .deniedNames, ["denied-names"], argument: "refused|nxdomain", .egress,
            "Answer to queries for names that are not allowed (default refused)"),
        .init(
            .flowLog, ["flow-log"], argument: "FILE|fd:N", .egress,
            "Write each flow and each denial as a line of JSON"),
        .init(
            .learn, ["learn"], argument: "FILE", .egress,
            "Write the rules that would have allowed what was seen"),
        .init(
            .allowFrom, ["allow-from"], argument: "PREFIX", .egress,
            "Sources that may use the ports of -t and -u (default all)"),
        .init(
            .maxFlows, ["max-flows"], argument: "N", .egress, "Refuse further flows while there are so many"),
        .init(
            .maxFlowRate, ["max-flow-rate"], argument: "N/s", .egress,
            "Drop what would open more flows than so many a second"),
    ]
}
