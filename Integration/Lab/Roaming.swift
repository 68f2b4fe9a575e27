// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// A host that can change its network, with an internet that notices wrong sources.
///
///     guest ══ tapas in host ── wlan0 ── wlan0 ── internet   192.0.2.1/24      2001:db8:1::1/64   a Wi-Fi
///                                                            198.18.7.1/24     2001:db8:7::1/64   another Wi-Fi
///                            ── eth0 ─── eth0 ───            198.51.100.1/24   2001:db8:2::1/64   a cable
///                            ── usb0 ─── usb0 ───            192.168.44.1/24   2001:db8:4::1/64   a telephone
///                            ── tun0 ─── tun0 ───            10.8.0.1/24       2001:db8:8::1/64   a VPN
///                                                  on lo     203.0.113.1       2001:db8:f::1      beyond
///
/// Every address of the internet answers on the agent's ports; each network has a name server at its .53 (::53), which
/// answers with its own address. A packet that arrives by another cable than that of its source is dropped (strict
/// reverse path filter): an address of one network does not work in another, as on the real internet. The host's
/// interfaces are down and without an address; its `/etc` is its own.
public struct Roaming: Sendable {
    /// Where tapas runs.
    public let host: Host
    /// Everybody else.
    public let internet: Host
    /// A namespace to attach to.
    public let guest: Host
    /// An agent in each.
    public let inHost: Agent, inInternet: Agent, inGuest: Agent

    /// The addresses beyond every network, IPv4 then IPv6.
    public static let beyond = ["203.0.113.1", "2001:db8:f::1"]

    /// Builds it.
    ///
    /// - Parameter lab: The lab.
    /// - Throws: `LabError` when something cannot be made.
    public init(in lab: Lab) async throws {
        async let first = lab.host("host")
        async let second = lab.host("internet")
        async let third = lab.host("guest")
        let (host, internet, guest) = try await (first, second, third)
        try await host.must(["sh", "-ec", Self.hostScript(internet.processID)])
        async let inHost = host.agent()
        async let inGuest = guest.agent()
        try await internet.must(["sh", "-ec", Self.internetScript])
        inInternet = try await internet.agent(serves: true)
        (self.inHost, self.inGuest) = try await (inHost, inGuest)
        (self.host, self.internet, self.guest) = (host, internet, guest)
    }

    private static func hostScript(_ internet: Int32) -> String {
        """
        mkdir /run/etc
        for name in passwd group hosts nsswitch.conf ld.so.cache ld.so.conf ld.so.conf.d iproute2; do
            [ ! -e /etc/$name ] || cp -r /etc/$name /run/etc/
        done
        : > /run/etc/resolv.conf
        mount --bind /run/etc /etc
        ip -batch - << END
        link add wlan0 type veth peer name wlan0 netns \(internet)
        link add eth0 type veth peer name eth0 netns \(internet)
        link add usb0 mtu 1420 type veth peer name usb0 mtu 1420 netns \(internet)
        link add tun0 type veth peer name tun0 netns \(internet)
        END
        """
    }

    private static var internetScript: String {
        """
        cd /proc/sys/net
        echo 1 > ipv4/conf/all/rp_filter
        echo 1 > ipv6/conf/all/keep_addr_on_down
        for name in wlan0 eth0 usb0 tun0; do echo 1 > ipv6/conf/$name/keep_addr_on_down; done
        ip -batch - << END
        address add 203.0.113.1/32 dev lo
        address add 2001:db8:f::1/128 dev lo nodad
        \(network("wlan0", "192.0.2", "2001:db8:1:"))
        address add 192.0.2.254/24 dev wlan0
        \(network("wlan0", "198.18.7", "2001:db8:7:"))
        \(network("eth0", "198.51.100", "2001:db8:2:"))
        \(network("usb0", "192.168.44", "2001:db8:4:"))
        \(network("tun0", "10.8.0", "2001:db8:8:"))
        address add 10.9.9.9/32 dev lo
        link set wlan0 up
        link set eth0 up
        link set usb0 up
        link set tun0 up
        END
        nft -f - << END
        table ip6 sources {
            chain arriving {
                type filter hook prerouting priority -300;
                ip6 saddr { fe80::/10, :: } accept
                iifname wlan0 ip6 saddr { 2001:db8:1::/64, 2001:db8:7::/64, 2001:db8:a::/48 } accept
                iifname eth0 ip6 saddr 2001:db8:2::/64 accept
                iifname usb0 ip6 saddr 2001:db8:4::/64 accept
                iifname tun0 ip6 saddr 2001:db8:8::/64 accept
                iifname lo accept
                drop
            }
        }
        END
        """
    }

    private static func network(_ interface: String, _ v4: String, _ v6: String) -> String {
        """
        address add \(v4).1/24 dev \(interface)
        address add \(v4).53/24 dev \(interface)
        address add \(v6):1/64 dev \(interface) nodad
        address add \(v6):53/64 dev \(interface) nodad
        """
    }

    // MARK: - tapas

    /// Attaches tapas to the guest.
    ///
    /// - Parameter options: Options besides those that say where.
    /// - Returns: The running program.
    /// - Throws: `LabError` when it ends before it is ready.
    @discardableResult
    public func attach(_ options: [String]) async throws -> Engine {
        let pidFile = host.lab.newPath("pid")
        let path = try await host.nameFile(of: guest)
        let program = try await host.startTapas(
            options + ["--config-net", "--foreground", "--pid", pidFile, "--netns", path])
        try await eventually("tapas is ready: its pid file has content") {
            let ended = program.termination
            if contents(of: pidFile).hasSuffix("\n") { return true }
            if let ended { throw LabError("tapas: \(ended) before it was ready\n\(program.errors)") }
            return false
        }
        let processID = Int32(contents(of: pidFile).dropLast()) ?? program.processID
        return Engine(program: program, processID: processID)
    }

    /// What a tapas that starts now gives to a namespace of its own: canonical lines.
    ///
    /// - Parameter options: Options besides `--config-net`.
    /// - Returns: The lines.
    /// - Throws: `LabError` when it fails.
    public func fresh(_ options: [String] = []) async throws -> [String] {
        let outcome = try await host.tapas(
            options + ["--quiet", "--config-net"], ["python3", helperProgram("netstate.py")])
        guard outcome.status == 0 else { throw LabError("a fresh start fails: \(outcome)") }
        return outcome.lines
    }

    /// Gives `ip -batch` lines to the host, all in one process, and tells when the last one was carried out.
    ///
    /// - Parameter lines: Commands without the leading `ip`.
    /// - Returns: `CLOCK_MONOTONIC` in seconds.
    /// - Throws: `LabError` with the kernel's word.
    @discardableResult
    public func change(_ lines: String) async throws -> Double {
        let joined = lines.split(separator: "\n").map { String($0.trimmed) }.joined(separator: ";")
        let answer = try await inHost.ask("ip", joined)
        guard answer.hasPrefix("done "), let time = Double(answer.dropFirst(5)) else {
            throw LabError("ip in the host: \(answer)\n\(lines)")
        }
        return time
    }
}

/// The kernel's figures of a tapas that runs in the foreground.
public struct Engine: Sendable {
    /// The program.
    public let program: Program
    /// Its process id.
    public let processID: Int32

    /// Makes one of a program that was started in the foreground.
    public init(program: Program, processID: Int32) {
        self.program = program
        self.processID = processID
    }

    /// Processor time used by it and its children that still run, in seconds.
    public var processorSeconds: Double {
        processes.reduce(0) { sum, process in
            let fields = contents(of: "/proc/\(process)/stat").split(separator: ")").last?.split(separator: " ") ?? []
            guard fields.count > 12, let user = Double(fields[11]), let system = Double(fields[12]) else { return sum }
            return sum + (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
        }
    }

    /// Open descriptors of it and its children.
    public var descriptorCount: Int {
        processes.reduce(0) { $0 + entries(of: "/proc/\($1)/fd").count }
    }

    /// What its open descriptors are, one a line, for messages.
    public var descriptors: String {
        processes.flatMap { process in
            entries(of: "/proc/\(process)/fd").map { number in
                var target = [CChar](repeating: 0, count: 200)
                let path = "/proc/\(process)/fd/\(number)"
                let count = readlink(path, &target, target.count)
                return
                    "\(path) \(String(decoding: target.prefix(max(count, 0)).map(UInt8.init(bitPattern:)), as: UTF8.self))"
            }
        }.joined(separator: "\n")
    }

    /// Resident memory in KiB.
    public var residentKibibytes: Int {
        number(after: "VmRSS:", in: contents(of: "/proc/\(processID)/status"))
    }

    /// How often the threads of it and its children have gone to sleep, which is once for each wake-up.
    public var sleeps: Int {
        processes.reduce(0) { sum, process in
            entries(of: "/proc/\(process)/task").reduce(sum) { sum, thread in
                sum
                    + number(
                        after: "voluntary_ctxt_switches:", in: contents(of: "/proc/\(process)/task/\(thread)/status"))
            }
        }
    }

    /// The process and those that it has started.
    private var processes: [Int32] {
        let children = entries(of: "/proc/\(processID)/task").flatMap { thread in
            contents(of: "/proc/\(processID)/task/\(thread)/children").split(separator: " ").compactMap { Int32($0) }
        }
        return [processID] + children
    }

    private func number(after name: String, in text: String) -> Int {
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            return line.dropFirst(name.count).split(whereSeparator: \.isWhitespace).first.flatMap { Int($0) } ?? 0
        }
        return 0
    }

    private func entries(of directory: String) -> [String] {
        guard let stream = opendir(directory) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names
    }
}

/// The path of a file of the project.
///
/// - Parameter path: Its path from the project's folder.
/// - Returns: The absolute path.
public func projectFile(_ path: String) -> String {
    FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent().appending(path).string
}
