// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(client): close fcntl fstat getdents64 geteuid newfstatat openat

internal import Control
internal import Glibc
public import JSON
internal import LinuxSystem
internal import NetworkTypes
internal import SystemPackage

/// The running instances of a user, found by the sockets in a folder.
public enum Instances {
    /// The folder of this user's sockets: in `XDG_RUNTIME_DIR`, or at its usual path.
    ///
    /// - Parameter runtimeFolder: the value of `XDG_RUNTIME_DIR`, if it is set.
    /// - Returns: its path.
    public static func folder(runtimeFolder: String?) -> String {
        let place = runtimeFolder.flatMap { $0.hasPrefix("/") ? $0 : nil } ?? "/run/user/\(geteuid())"
        return ControlSocket.folder(runtimeFolder: place)
    }

    /// The sockets of running instances, by process id.
    ///
    /// - Parameter folder: the folder to search.
    /// - Returns: the instances; none if there is no such folder. Files that an ended instance has left behind are left
    ///   out.
    public static func running(in folder: String) -> [(process: Int32, path: String)] {
        var found: [(process: Int32, path: String)] = []
        for name in Folder.names(in: folder) {
            guard name.hasSuffix(".sock"), let process = Int32(name.dropLast(5)), process > 0 else { continue }
            found.append((process, "\(folder)/\(name)"))
        }
        return found.sorted { $0.process < $1.process }.filter { isAnswering($0.path) }
    }

    /// Asks all running instances, one after the other (`--all`).
    ///
    /// - Parameters:
    ///   - folder: the folder of their sockets.
    ///   - ask: asks one instance.
    ///   - take: receives the process id of each instance, and its answer or the reason for having none.
    /// - Returns: the number of instances, and the number of those that did not answer.
    /// - Throws: What `take` throws.
    public static func askAll(
        in folder: String, _ ask: (inout ControlConnection) throws(ClientError) -> JSONValue,
        take: (Int32, Result<JSONValue, ClientError>) throws(ClientError) -> Void
    ) throws(ClientError) -> (count: Int, failures: Int) {
        let all = running(in: folder)
        var failures = 0
        for instance in all {
            let result: Result<JSONValue, ClientError>
            do throws(ClientError) {
                var connection = try ControlConnection(path: instance.path)
                result = .success(try ask(&connection))
            } catch {
                failures += 1
                result = .failure(error)
            }
            try take(instance.process, result)
        }
        return (all.count, failures)
    }

    /// Whether a process listens at a path.
    private static func isAnswering(_ path: String) -> Bool {
        guard let address = UnixSocketAddress(path: path) else { return false }
        do throws(SystemCallError) {
            let socket = try UnixSocketAddress.socket(.stream)
            try address.connect(socket.descriptor)
            return true
        } catch {
            // A full queue shows that a process listens.
            return error.errno == .resourceTemporarilyUnavailable
        }
    }

    /// One line about an instance, for the list of instances: "4711  command make fetch, IPv4 template wlan0".
    ///
    /// - Parameters:
    ///   - process: its process id.
    ///   - status: its answer to `status`; nil if there was none.
    /// - Returns: the line.
    public static func line(_ process: Int32, _ status: JSONValue?) -> String {
        guard let status else { return "\(process)  (does not answer)" }
        let modes = [("ipv4", "IPv4"), ("ipv6", "IPv6")].compactMap { name, title -> String? in
            guard let family = status["families"]?[name], let mode = family["mode"]?.string else { return nil }
            return "\(title) \(mode)" + (family["interface"]?.string.map { " \($0)" } ?? "")
        }
        return "\(process)  \(StatusText.target(status)); \(modes.joined(separator: ", "))"
    }
}
