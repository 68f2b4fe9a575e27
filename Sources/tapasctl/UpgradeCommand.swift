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
                let before = try connection.result("upgrade")
                let limit = MonotonicTime.now.advanced(milliseconds: Self.patience)
                while MonotonicTime.now < limit {
                    if let now = try? Self.ask(connection.path), now["engine"] != before["engine"] {
                        return ["before": before["version"] ?? .null, "version": now["version"] ?? .null]
                    }
                    var pause = timespec(tv_sec: 0, tv_nsec: 20_000_000)
                    _ = unsafe nanosleep(&pause, nil)
                }
                throw ClientError("the engine was not replaced; the instance's log says why")
            },
            text: { ["\($0["before"]?.string ?? "?") -> \($0["version"]?.string ?? "?")"] })
    }

    private static func ask(_ path: String) throws(ClientError) -> JSONValue {
        var connection = try ControlConnection(path: path)
        return try connection.result("status")
    }
}
