// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): close openat

import ArgumentParser
import ControlClient
import JSON
import LinuxSystem
import SystemPackage

/// `policy`.
struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "The rules on what may leave the namespace.",
        subcommands: [PolicyList.self, PolicyTest.self, PolicyAllow.self, PolicyDeny.self, PolicyReload.self])
}

/// `policy list`.
struct PolicyList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The rules in order, what each has decided, and the names that are known.")
    @OptionGroup var instance: InstanceOptions

    func run() throws {
        try instance.answer(
            { connection throws(ClientError) in try connection.result("policy.list") },
            text: { PolicyText.list($0) })
    }
}

/// `policy test`.
struct PolicyTest: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "test", abstract: "What the rules say of a destination now; exit status 1 if it is denied.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "[tcp|udp|icmp:]ADDRESS-OR-NAME[:PORT]; TCP and port 443 if they are not given.")
    var destination: String

    func run() throws {
        var parameters = JSONObject()
        parameters["destination"] = JSONValue(destination)
        let asked = parameters
        var isDenied = false
        try instance.answer(
            { connection throws(ClientError) in
                let answer = try connection.result("policy.test", asked)
                isDenied = answer["verdict"]?.string == "deny"
                return answer
            }, text: { PolicyText.test($0) })
        if isDenied { throw ExitCode(Program.Status.failure) }
    }
}

/// `policy allow`.
struct PolicyAllow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "allow", abstract: "Adds a rule before all others.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "[tcp|udp|icmp:]DESTINATION[:PORTS]") var specification: String

    func run() throws { try instance.addRule("policy.allow", specification) }
}

/// `policy deny`.
struct PolicyDeny: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "deny", abstract: "Adds a rule before all others, and resets the flows that it denies.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "[tcp|udp|icmp:]DESTINATION[:PORTS]") var specification: String

    func run() throws { try instance.addRule("policy.deny", specification) }
}

/// `policy reload`.
struct PolicyReload: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reload", abstract: "Reads the file of --egress-file again: all of it, or nothing changes.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "The file, as the instance was given it; not needed if there is one only.") var file: String?

    func run() throws {
        var connection = try instance.connection()
        let files = (try connection.result("policy.list")["files"]?.array ?? []).compactMap(\.string)
        guard let path = file ?? (files.count == 1 ? files.first : nil) else {
            throw ClientError(
                files.isEmpty
                    ? "the instance has no --egress-file" : "name one of \(files.joined(separator: ", "))")
        }
        let name = files.contains(path) ? path : files.first { $0.hasSuffix("/" + path) } ?? path
        let opened: OwnedFileDescriptor
        do throws(SystemCallError) {
            opened = try OwnedFileDescriptor.open(path, .readOnly, options: [])
        } catch {
            throw ClientError("'\(path)': \(error.errno.explanation)")
        }
        var parameters = JSONObject()
        parameters["file"] = JSONValue(name)
        let result = try connection.request("policy.reload", parameters, with: opened.descriptor) ?? .null
        if instance.json { try Output.write(result) } else { try Output.write(PolicyText.reloaded(result)) }
    }
}

/// `flow-log`.
struct FlowLogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "flow-log", abstract: "The record of flows.", subcommands: [FlowLogRotate.self])
}

/// `flow-log rotate`.
struct FlowLogRotate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rotate", abstract: "Continues the flow log in a file, which may have the old one's name.")
    @OptionGroup var instance: InstanceOptions
    @Argument(help: "The file; another flow log that is there is continued.") var file: String

    func run() throws {
        var connection = try instance.connection()
        var output = OutputFile(file, purpose: "flow log") { $0.starts(with: "{\"time\":".utf8) }
        output.appends = true
        let opened: OwnedFileDescriptor
        do throws(OutputFileError) {
            opened = try output.open(becoming: nil)
        } catch {
            throw ClientError("'\(file)': \(error)")
        }
        let result = try connection.request("flow-log.rotate", with: opened.descriptor) ?? .null
        if instance.json { try Output.write(result) }
    }
}

extension InstanceOptions {
    fileprivate func addRule(_ method: String, _ specification: String) throws {
        var parameters = JSONObject()
        parameters["specification"] = JSONValue(specification)
        var connection = try connection()
        let result = try connection.result(method, parameters)
        if json { try Output.write(result) }
    }
}
