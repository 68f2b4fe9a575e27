// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Control
import ControlClient
import Glibc
import JSON
import NetworkTypes

/// The options that select the instance and the form of the answer.
struct InstanceOptions: ParsableArguments {
    @Option(name: [.customShort("s"), .customLong("socket")], help: "The path of the instance's control socket.")
    var socket: String?

    @Option(help: "The instance with this process id.")
    var pid: Int32?

    @Flag(help: "All running instances of this user.")
    var all = false

    @Flag(help: "Print JSON.")
    var json = false

    func validate() throws {
        let count = (socket == nil ? 0 : 1) + (pid == nil ? 0 : 1) + (all ? 1 : 0)
        if count > 1 { throw ValidationError("give one of --socket, --pid and --all") }
    }

    private var folder: String {
        let value = unsafe getenv("XDG_RUNTIME_DIR").map { unsafe String(cString: $0) }
        return Instances.folder(runtimeFolder: value)
    }

    /// The one selected instance.
    func connection() throws(ClientError) -> ControlConnection {
        if all { throw ClientError("--all: this command takes one instance; name it with --pid") }
        if let socket { return try ControlConnection(path: socket) }
        if let pid { return try ControlConnection(path: "\(folder)/\(pid).sock") }
        let running = Instances.running(in: folder)
        if running.count == 1 { return try ControlConnection(path: running[0].path) }
        if running.isEmpty {
            throw ClientError(
                "no running instance in \(folder); name the socket of one that was started with -c PATH: -s PATH.ctl")
        }
        let list = running.prefix(16).map { Instances.line($0.process, Self.status(of: $0.path)) }
        let more = running.count > list.count ? " | and \(running.count - list.count) more" : ""
        throw ClientError(
            "\(running.count) instances run, choose one with --pid: \(list.joined(separator: " | "))\(more)")
    }

    private static func status(of path: String) -> JSONValue? {
        do throws(ClientError) {
            var connection = try ControlConnection(path: path)
            return try connection.request("status")
        } catch {
            return nil
        }
    }

    /// Sends the request to the instance, or to all of them, and prints the answers.
    ///
    /// - Parameters:
    ///   - ask: asks one instance.
    ///   - text: the answer for people.
    /// - Throws: What went wrong; with `--all`, if any instance did not answer.
    func answer(
        _ ask: (inout ControlConnection) throws(ClientError) -> JSONValue,
        text: (JSONValue) -> [String]
    ) throws(ClientError) {
        guard all else {
            var connection = try connection()
            let value = try ask(&connection)
            if json { try Output.write(value) } else { try Output.write(text(value)) }
            return
        }
        var values: [JSONValue] = []
        let (count, failures) = try Instances.askAll(in: folder, ask) { (process, result) throws(ClientError) in
            switch result {
            case .success(let value):
                values.append(["pid": JSONValue(process), "result": value])
                if !json { try Output.write([Output.style.heading("process \(process)")] + text(value) + [""]) }
            case .failure(let error):
                values.append(["pid": JSONValue(process), "error": JSONValue("\(error)")])
                if !json { Output.writeError("tapasctl: process \(process): \(error)") }
            }
        }
        if json { try Output.write(["instances": .array(values)]) }
        if failures > 0 { throw ClientError("\(failures) of \(count) instances did not answer") }
    }
}
