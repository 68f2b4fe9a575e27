// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import ControlClient
import JSON
import NetworkTypes

/// `status`.
struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What holds now: mode, addresses, resolvers, forwards, and what was skipped.")
    @OptionGroup var instance: InstanceOptions

    func run() throws {
        try instance.answer(
            { connection throws(ClientError) in try connection.result("status") },
            text: { StatusText.lines($0, Output.style) })
    }
}

/// `explain`.
struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Why it is so: which host interfaces were candidates, and what decided; or what would happen to a packet.")
    @OptionGroup var instance: InstanceOptions
    @Option(help: "One family: 4 or 6.")
    var family: Int?
    @Option(name: .customLong("protocol"), help: "With a destination: tcp, udp or icmp.")
    var transport: String?
    @Argument(help: "A destination as the namespace sees it: ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT.")
    var destination: String?

    func run() throws {
        var parameters = JSONObject()
        if let family {
            guard family == 4 || family == 6 else { throw ValidationError("--family: give 4 or 6") }
            parameters["family"] = JSONValue(family)
        }
        if let destination {
            guard family == nil else { throw ValidationError("--family: a destination has its family already") }
            guard let place = DestinationArgument(destination) else {
                throw ValidationError("'\(destination)': give ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT")
            }
            parameters["destination"] = JSONValue("\(place.address)")
            if let port = place.port { parameters["port"] = JSONValue(port) }
            if let transport { parameters["protocol"] = JSONValue(transport) }
        } else if transport != nil {
            throw ValidationError("--protocol: give a destination, too")
        }
        let asked = parameters
        try instance.answer(
            { connection throws(ClientError) in try connection.result("explain", asked) },
            text: { ExplainText.lines($0, Output.style) })
    }
}

/// `watch`.
struct Watch: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "One line for each change of the host, until the instance ends.")
    @OptionGroup var instance: InstanceOptions
    @Flag(help: "One line for each flow that opens, is denied or ends, instead.") var flows = false

    func run() throws {
        let flows = flows
        let (json, style) = (instance.json, Output.style)
        var connection = try instance.connection()
        let path = connection.path
        var begun = false
        do throws(ClientError) {
            try connection.request(flows ? "watch.flows" : "watch") { event throws(ClientError) in
                begun = true
                if flows {
                    guard let line = PolicyText.flow(event) else { return true }
                    if !json {
                        try Output.write([line])
                        return true
                    }
                }
                if json {
                    try Output.write(event, onOneLine: true)
                } else {
                    try Output.write([WatchText.line(event, style)])
                }
                return true
            }
        } catch {
            // The command ends normally with the instance.
            if begun, error == ControlConnection.endOfInstance(path) { return }
            throw error
        }
    }
}

/// `wait`.
struct Wait: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Wait until something holds; exit status 1 if it does not in time.",
        discussion: "All conditions that are given must hold at once.")
    @OptionGroup var instance: InstanceOptions
    @Option(help: "The family has the host's network, or what options give: 4, 6 or any.")
    var usable: String?
    @Option(help: "The namespace has this address.")
    var address: String?
    @Option(
        help: "A family has this mode: template, local, manual, transparent, opaque, off; ipv4:template for one family."
    )
    var mode: String?
    @Option(
        parsing: .unconditional,
        help: "These ports are listened on: '8080:80', '-u 53' for one option, or a rule as `forward list` prints it.")
    var forward: String?
    @Option(help: "Give up after so many seconds.")
    var timeout: Double?

    func run() throws {
        var parameters = JSONObject()
        let texts = [("usable", usable), ("address", address), ("mode", mode), ("forward", forward)]
        for case (let name, let value?) in texts { parameters[name] = JSONValue(value) }
        guard !parameters.members.isEmpty else {
            throw ValidationError("give --usable, --address, --mode or --forward")
        }
        if let timeout {
            guard timeout >= 0, timeout <= 1e9 else { throw ValidationError("--timeout: give seconds") }
            parameters["timeout"] = .number(timeout)
        }
        var connection = try instance.connection()
        let result = try connection.result("wait", parameters)
        if instance.json { try Output.write(result) }
    }
}

/// `dns`.
struct DNS: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dns", abstract: "The resolvers, and how queries to them went.")
    @OptionGroup var instance: InstanceOptions

    func run() throws {
        try instance.answer(
            { connection throws(ClientError) in try connection.result("dns") }, text: { DNSText.lines($0) })
    }
}

/// `metrics`.
struct Metrics: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Counters as OpenMetrics text.")
    @OptionGroup var instance: InstanceOptions
    @Option(help: "Put the text into the place of this file, at once: for node_exporter's textfile collector.")
    var output: String?

    func run() throws {
        guard let output else {
            return try instance.answer(
                { connection throws(ClientError) in try connection.result("metrics") },
                text: { ShortTexts.metrics($0) })
        }
        var connection = try instance.connection()
        guard let text = try connection.result("metrics")["text"]?.string else {
            throw ClientError("the instance answered without metrics")
        }
        try Output.replace(output, with: text)
    }
}
