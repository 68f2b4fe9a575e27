// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// Files that every lab of the run shares: the program under test and the helper programs.
///
/// They are copied to a world-readable folder, because some tests run as an ordinary user, who may have no access to
/// the folder of the sources. `contrib/dev/lab` names that folder in TAPAS_LAB_DIRECTORY and removes it afterwards.
enum LabFiles {
    struct Places: Sendable {
        let directory: String
        let binary: String
    }

    /// Made once for the whole run.
    static let shared = Swift.Result<Places, LabError> { () throws(LabError) in
        let source = environmentVariable("TAPAS_BINARY") ?? builtBesideTheTests
        guard source.hasPrefix("/") else {
            throw LabError("TAPAS_BINARY must be an absolute path, and is \(source)")
        }
        let directory = environmentVariable("TAPAS_LAB_DIRECTORY") ?? "/tmp/tapas-lab-\(getpid())"
        try makeFolder(directory, mode: 0o755)
        try makeFolder(directory + "/programs", mode: 0o755)
        let binary: String
        if source.hasPrefix("/usr/") {
            binary = source
        } else {
            binary = directory + "/tapas"
            try copy(source, to: binary, mode: 0o755)
            for name in ["tapas-oci-hook", "tapasctl"] {
                let program = FilePath(source).removingLastComponent().appending(name).string
                if access(program, X_OK) == 0 { try copy(program, to: "\(directory)/\(name)", mode: 0o755) }
            }
        }
        let programs = FilePath(#filePath).removingLastComponent().appending("Programs")
        let names = [
            "agent", "client", "deciding_rule", "dns", "flood", "freeze_thread", "left_behind", "name_server",
            "netstate", "pattern", "pesto", "raw", "device", "serve", "terminal", "zone",
        ]
        for name in names {
            try copy(programs.appending(name + ".py").string, to: "\(directory)/programs/\(name).py", mode: 0o644)
        }
        // Compiled by the scenarios that need it.
        try copy(programs.appending("native.c").string, to: "\(directory)/programs/native.c", mode: 0o644)
        return Places(directory: directory, binary: binary)
    }

    /// The program that `swift build` made beside the running tests.
    private static var builtBesideTheTests: String {
        var path = [CChar](repeating: 0, count: Int(PATH_MAX))
        let length = max(0, readlink("/proc/self/exe", &path, path.count))
        let tests = FilePath(String(decoding: path[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self))
        return tests.removingLastComponent().appending("tapas").string
    }

    /// The path of a helper program's copy.
    static func program(_ name: String) -> String {
        ((try? shared.get().directory) ?? "") + "/programs/" + name
    }

    private static func copy(_ source: String, to target: String, mode: mode_t) throws(LabError) {
        do {
            let input = try FileDescriptor.open(FilePath(source), .readOnly)
            defer { try? input.close() }
            let output = try FileDescriptor.open(
                FilePath(target + ".new"), .writeOnly, options: [.create, .truncate],
                permissions: FilePermissions(rawValue: mode))
            defer { try? output.close() }
            var chunk = [UInt8](repeating: 0, count: 1 << 20)
            while true {
                let count = try chunk.withUnsafeMutableBytes { buffer in try input.read(into: buffer) }
                if count == 0 { break }
                try output.writeAll(chunk[..<count])
            }
        } catch {
            throw LabError("copying \(source) to \(target): \(error)")
        }
        chmod(target + ".new", mode)
        rename(target + ".new", target)
    }
}

/// The path of one of the lab's helper programs, where everybody can read it.
///
/// - Parameter name: Its file name in `Integration/Lab/Programs`.
/// - Returns: The path.
public func helperProgram(_ name: String) -> String {
    LabFiles.program(name)
}

/// The value of an environment variable.
public func environmentVariable(_ name: String) -> String? {
    getenv(name).map { String(cString: $0) }
}

/// Makes a folder, independent of the umask; an existing one is not an error.
func makeFolder(_ path: String, mode: mode_t) throws(LabError) {
    if mkdir(path, mode) != 0, errno != EEXIST {
        throw LabError("mkdir \(path): \(Errno(rawValue: errno))")
    }
    chmod(path, mode)
}
