// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ControlClient
import JSON
import LinuxSystem

/// `flows`.
struct Flows: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The flows, or resets some of them.", subcommands: [FlowsList.self, FlowsKill.self],
        defaultSubcommand: FlowsList.self)
}

/// `flows` without a second word.
struct FlowsList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The flows.",
        discussion: "FILTER: tcp, udp, icmp, remote=192.0.2.1, remote-port=443, guest=, host=, interface=, state= ...")
    @OptionGroup var instance: InstanceOptions
    @Flag(help: "TCP.") var tcp = false
    @Flag(help: "UDP.") var udp = false
    @Flag(help: "ICMP echo.") var icmp = false
    @Option(help: "Sort by bytes, packets, age or idle, the greatest first.") var sort: String?
    @Option(help: "So many at most.") var limit: Int?
    @Argument(help: "Which flows; all of these must hold.") var filter: [String] = []

    func run() throws {
        var parameters = try FlowFilterArguments(filter).parameters
        let protocols = [(tcp, "tcp"), (udp, "udp"), (icmp, "icmp")].compactMap { $0.0 ? $0.1 : nil }
        // Several protocols are filtered here, because a request names at most one.
        if protocols.count == 1 { parameters["protocol"] = JSONValue(protocols[0]) }
        if let sort { parameters["sort"] = JSONValue(sort) }
        if let limit, protocols.count < 2 { parameters["limit"] = JSONValue(limit) }
        let asked = parameters
        try instance.answer(
            { connection throws(ClientError) in
                var flows: [JSONValue] = []
                try connection.request("flows", asked) { event throws(ClientError) in
                    flows += event["flows"]?.array ?? []
                    return true
                }
                if protocols.count > 1 {
                    flows.removeAll { !protocols.contains($0["protocol"]?.string ?? "") }
                    if let limit { flows = Array(flows.prefix(limit)) }
                }
                return ["flows": .array(flows)]
            },
            text: { FlowText.lines($0["flows"]?.array ?? []) })
    }
}

/// `flows kill`.
struct FlowsKill: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "kill", abstract: "Resets the flows that a filter selects.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "Which flows: tcp, remote=192.0.2.1, remote-port=443, ...; `all` for all.") var filter: [String]

    func run() throws {
        let filter = try FlowFilterArguments(filter)
        var parameters = filter.parameters
        if filter.meansAll {
            guard parameters.members.isEmpty else { throw ValidationError("'all' goes without other words") }
            parameters["all"] = true
        }
        let asked = parameters
        try instance.answer(
            { connection throws(ClientError) in try connection.result("flows.kill", asked) },
            text: { ShortTexts.killed($0) })
    }
}

/// `forward`.
struct Forward: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists and changes the forwarding rules.",
        subcommands: [ForwardList.self, ForwardAdd.self, ForwardRemove.self, ForwardReplace.self])
}

/// Forwarding rules as on the command line of tapas.
struct ForwardRules: ParsableArguments {
    @Option(name: [.customShort("t"), .customLong("tcp-ports")], help: "TCP ports from the host to the namespace.")
    var tcpPorts: [String] = []
    @Option(name: [.customShort("u"), .customLong("udp-ports")], help: "UDP ports from the host to the namespace.")
    var udpPorts: [String] = []
    @Option(
        name: [.customShort("T"), .customLong("tcp-ns")], help: "TCP ports from the namespace's loopback to the host.")
    var tcpNamespace: [String] = []
    @Option(
        name: [.customShort("U"), .customLong("udp-ns")], help: "UDP ports from the namespace's loopback to the host.")
    var udpNamespace: [String] = []

    /// The rules as parameters.
    var parameters: JSONObject {
        let all = [
            ("tcp-ports", tcpPorts), ("udp-ports", udpPorts), ("tcp-ns", tcpNamespace), ("udp-ns", udpNamespace),
        ]
        var object = JSONObject()
        object["rules"] = .array(
            all.flatMap { option, texts in
                texts.map { ["option": JSONValue(option), "specification": JSONValue($0)] }
            })
        return object
    }

    /// Whether there is none.
    var isEmpty: Bool { tcpPorts.isEmpty && udpPorts.isEmpty && tcpNamespace.isEmpty && udpNamespace.isEmpty }
}

/// `forward list`.
struct ForwardList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The forwarding rules, and which of them wait.")
    @OptionGroup var instance: InstanceOptions

    func run() throws {
        try instance.answer(
            { connection throws(ClientError) in try connection.result("forward.list") },
            text: { ForwardText.lines($0) })
    }
}

/// `forward add`.
struct ForwardAdd: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "add", abstract: "Adds rules: all of them, or none and exit status 1.")
    @OptionGroup var instance: InstanceOptions
    @OptionGroup var rules: ForwardRules

    func run() throws { try instance.changeForwards("forward.add", rules) }
}

/// `forward remove`.
struct ForwardRemove: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Removes rules: all of them, or none and exit status 1.")
    @OptionGroup var instance: InstanceOptions
    @OptionGroup var rules: ForwardRules

    func run() throws { try instance.changeForwards("forward.remove", rules) }
}

/// `forward replace`.
struct ForwardReplace: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replace", abstract: "Puts rules in the place of all that there are; without any, removes all.")
    @OptionGroup var instance: InstanceOptions
    @OptionGroup var rules: ForwardRules

    func run() throws { try instance.changeForwards("forward.replace", rules, mayBeEmpty: true) }
}

extension InstanceOptions {
    fileprivate func changeForwards(_ method: String, _ rules: ForwardRules, mayBeEmpty: Bool = false) throws {
        guard mayBeEmpty || !rules.isEmpty else { throw ValidationError("give rules with -t, -u, -T or -U") }
        var connection = try connection()
        let result = try connection.result(method, rules.parameters)
        if json { try Output.write(result) }
    }
}

/// `log`.
struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "What the instance logs.", subcommands: [LogLevel.self])
}

/// `log level`.
struct LogLevel: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "level", abstract: "Shows or sets the level: error, warning, notice, info, debug or trace.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "The level to set.") var level: String?

    func run() throws {
        var parameters = JSONObject()
        if let level { parameters["level"] = JSONValue(level) }
        let asked = parameters
        try instance.answer(
            { connection throws(ClientError) in try connection.result("log.level", asked) },
            text: { ShortTexts.logLevel($0) })
    }
}

/// `pcap`.
struct Capture: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pcap", abstract: "Captures the namespace's packets.",
        subcommands: [CaptureStart.self, CaptureStop.self])
}

/// `pcap start`.
struct CaptureStart: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "start", abstract: "Begins to write a capture file.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "The file; another capture that is there is replaced, any other file is not.") var file: String

    /// How captures begin (pcap-savefile(5)): microseconds or nanoseconds, either byte order; and pcapng.
    private static let beginnings: [[UInt8]] = [
        [0xD4, 0xC3, 0xB2, 0xA1], [0xA1, 0xB2, 0xC3, 0xD4], [0x4D, 0x3C, 0xB2, 0xA1], [0xA1, 0xB2, 0x3C, 0x4D],
        [0x0A, 0x0D, 0x0D, 0x0A],
    ]

    func run() throws {
        var connection = try instance.connection()
        let output = OutputFile(file, purpose: "capture") { beginning in
            Self.beginnings.contains { beginning.starts(with: $0) }
        }
        let opened: OwnedFileDescriptor
        do throws(OutputFileError) {
            opened = try output.open(becoming: nil)
        } catch {
            throw ClientError("'\(file)': \(error)")
        }
        let result = try connection.request("pcap.start", with: opened.descriptor) ?? .null
        if instance.json { try Output.write(result) }
    }
}

/// `pcap stop`.
struct CaptureStop: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "stop", abstract: "Ends the capture.")
    @OptionGroup var instance: InstanceOptions

    func run() throws {
        try instance.answer(
            { connection throws(ClientError) in try connection.result("pcap.stop") },
            text: { ShortTexts.captured($0) })
    }
}
