// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(hook): access geteuid mkdir newfstatat readlink

import Glibc
import LinuxSystem
import OCIHook
import SystemPackage

/// Where the hook's files and programs are.
///
/// A runtime may give a hook no environment at all.
struct HookPaths {
    /// The system's configuration.
    let systemConfiguration = "/etc/tapas/hook.conf"

    /// Our user id outside of the user namespace that a container engine has made for itself.
    private let userID: UInt32

    init() {
        userID = Self.outsideUserID()
    }

    /// The user's configuration; nil for a user without a home.
    var userConfiguration: String? {
        if let folder = Self.variable("XDG_CONFIG_HOME"), folder.hasPrefix("/") { return "\(folder)/tapas/hook.conf" }
        let home = Self.variable("HOME") ?? Self.homeFolder(of: userID)
        guard let home, home.hasPrefix("/") else { return nil }
        return "\(home)/.config/tapas/hook.conf"
    }

    /// The program: beside this one, or else in PATH.
    func tapas() throws(HookError) -> String {
        var buffer = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        if length > 0 {
            let path = String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            let beside = path.prefix(through: path.lastIndex(of: "/") ?? path.startIndex) + "tapas"
            if unsafe access(String(beside), X_OK) == 0 { return String(beside) }
        }
        let search = Self.variable("PATH") ?? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        for folder in search.split(separator: ":") where folder.hasPrefix("/") {
            let path = "\(folder)/tapas"
            if unsafe access(path, X_OK) == 0 { return path }
        }
        throw HookError("tapas", "is neither beside tapas-oci-hook nor in PATH (\(search))")
    }

    /// The private folder of the pid files; created if it does not exist.
    ///
    /// - Throws: When no place is suitable, with the reason for each.
    func runFolder() throws(HookError) -> String {
        var parents: [String] = []
        if let folder = Self.variable("XDG_RUNTIME_DIR"), folder.hasPrefix("/") { parents.append(folder) }
        parents.append(userID == 0 ? "/run" : "/run/user/\(userID)")
        var refused: [String] = []
        for path in parents.map({ "\($0)/tapas-oci-hook" }) + ["/tmp/tapas-oci-hook-\(userID)"] {
            let problem = Self.makePrivate(path)
            guard let problem else { return path }
            refused.append("\(path): \(problem)")
        }
        throw HookError("no folder for the pid file", refused.joined(separator: "; "))
    }

    /// Makes a folder that only we can write to; returns the obstacle, if there is one.
    private static func makePrivate(_ path: String) -> String? {
        if unsafe mkdir(path, 0o700) != 0, currentErrno != .fileExists { return currentErrno.explanation }
        var status = stat()
        guard unsafe lstat(path, &status) == 0 else { return currentErrno.explanation }
        guard status.st_mode & S_IFMT == S_IFDIR else { return "is no folder" }
        guard status.st_uid == geteuid() else { return "is somebody else's" }
        guard status.st_mode & 0o022 == 0 else { return "others may write to it" }
        return nil
    }

    private static func variable(_ name: String) -> String? {
        guard let value = unsafe getenv(name) else { return nil }
        let text = unsafe String(cString: value)
        return text.isEmpty ? nil : text
    }

    /// The home folder in /etc/passwd, read without the name service, which would load libraries.
    private static func homeFolder(of user: UInt32) -> String? {
        guard let bytes = try? HookFiles.read("/etc/passwd", limit: 1 << 20) else { return nil }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            if fields.count > 5, UInt32(fields[2]) == user { return String(fields[5]) }
        }
        return nil
    }

    /// Our user id in the parent of our user namespace (user_namespaces(7)).
    private static func outsideUserID() -> UInt32 {
        let own = geteuid()
        guard let bytes = try? HookFiles.read("/proc/self/uid_map", limit: 1 << 16) else { return own }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let fields = line.split(separator: " ").compactMap { UInt32($0) }
            guard fields.count == 3, own >= fields[0], own - fields[0] < fields[2] else { continue }
            return fields[1] &+ (own - fields[0])
        }
        return own
    }
}
