// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): clock_nanosleep

import ArgumentParser
import ControlClient
import Glibc
import JSON
import LinuxSystem

/// `upgrade`.
struct Upgrade: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Replaces the running engine by the program that is at its path now (tapas --persist).")
    @OptionGroup var instance: InstanceOptions

    /// How long the new engine may take, in milliseconds.
    private static let patience: Int64 = 5_000

    func run() throws {
        try instance.answer(
            { connection throws(ClientError) in
                let restarts = try connection.result("status")["restarts"]?.integer ?? 0
                let before = try connection.result("upgrade")
                let limit = MonotonicTime.now.advanced(milliseconds: Self.patience)
                while MonotonicTime.now < limit {
                    if let now = try? Self.ask(connection.path), now["engine"] != before["engine"] {
                        // The former program is started if the new one ends too soon.
                        guard now["restarts"]?.integer == restarts + 1 else {
                            throw ClientError(
                                "the new program ended while it started, and the former one goes on; see the instance's log"
                            )
                        }
                        return ["before": before["version"] ?? .null, "version": now["version"] ?? .null]
                    }
                    var pause = timespec(tv_sec: 0, tv_nsec: 20_000_000)
                    _ = unsafe nanosleep(&pause, nil)
                }
                throw ClientError("no new engine answers; see the instance's log")
            },
            text: { ["\($0["before"]?.string ?? "?") -> \($0["version"]?.string ?? "?")"] })
    }

    private static func ask(_ path: String) throws(ClientError) -> JSONValue {
        var connection = try ControlConnection(path: path)
        return try connection.result("status")
    }
}
