// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Subprocess
import SystemPackage
import TestSupport

/// The package's own files, as the tests of its architecture see them.
enum Package {
    /// The folder of Package.swift.
    static let root = FilePath(#filePath).removingLastComponent().removingLastComponent().removingLastComponent()

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Runs a program in the package's folder and returns its output.
    static func output(_ program: String, _ arguments: [String]) async throws -> String {
        let result = try await ForkExclusion.startingPrograms {
            try await Subprocess.run(
                .name(program), arguments: Arguments(arguments), workingDirectory: root,
                output: .string(limit: 16 << 20), error: .string(limit: 1 << 20))
        }
        guard result.terminationStatus.isSuccess else {
            throw Failure(description: "\(program): \(result.terminationStatus): \(result.standardError)")
        }
        return result.standardOutput
    }

    /// The files in version control and new files that are not ignored, relative to the package's folder.
    static func files() async throws -> [String] {
        try await output("git", ["ls-files", "--cached", "--others", "--exclude-standard"])
            .split(separator: "\n").map(String.init).filter { exists($0) }
    }

    /// The text of a file of the package.
    static func text(of file: String) throws -> String {
        let descriptor = try FileDescriptor.open(root.appending(file), .readOnly)
        defer { try? descriptor.close() }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try chunk.withUnsafeMutableBytes { buffer in try descriptor.read(into: buffer) }
            if count == 0 { break }
            bytes += chunk[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func exists(_ file: String) -> Bool {
        access(root.appending(file).string, F_OK) == 0
    }

    /// The modules that a Swift file imports, with the line of each.
    static func imports(of file: String) throws -> [(module: String, line: Int)] {
        let modifiers: Set<Substring> = ["public", "package", "internal", "private", "fileprivate"]
        var found: [(String, Int)] = []
        for (number, line) in try text(of: file).split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let words = line.split(separator: " ").drop { modifiers.contains($0) || $0.hasPrefix("@") }
            guard words.first == "import", let name = words.dropFirst().last ?? words.dropFirst().first else {
                continue
            }
            found.append((String(name.prefix { $0 != "." && $0 != ";" }), number + 1))
        }
        return found
    }
}

/// A target of the package, according to `swift package dump-package`.
struct Target {
    let name: String
    let type: String
    let dependencies: Set<String>

    /// Reads the package's description.
    static func all() async throws -> [Target] {
        // A scratch path of its own: the test itself runs while SwiftPM holds the usual one's lock.
        let scratch = "/tmp/tapas-architecture-\(getpid())"
        defer { rmdir(scratch) }
        let description = try await Package.output(
            "swift", ["package", "--scratch-path", scratch, "--disable-sandbox", "dump-package"])
        // There is no Foundation here, so a program that every test machine has extracts the needed part.
        let script = """
            import json, sys
            for target in json.loads(sys.argv[1])["targets"]:
                names = [next(iter(d.values()))[0] for d in target["dependencies"]]
                print(target["name"], target["type"], *names)
            """
        return try await Package.output("python3", ["-c", script, description]).split(separator: "\n").map { line in
            let words = line.split(separator: " ").map(String.init)
            return Target(name: words[0], type: words[1], dependencies: Set(words.dropFirst(2)))
        }
    }
}
