// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing

@Suite("architecture", .timeLimit(.minutes(4))) struct ArchitectureTests {
    @Test("the package's targets depend on each other as the layering allows")
    func targetsDependAsTheLayeringAllows() async throws {
        let targets = try await Target.all()
        let rooms = targets.filter {
            ["regular", "system"].contains($0.type) && !["CLab", "NetlinkTestSupport"].contains($0.name)
        }
        #expect(rooms.count > 10, "\(targets)")
        for room in rooms {
            let allowed = try #require(Layering.mayKnow[room.name], "\(room.name) has no row in Layering.swift")
            for dependency in room.dependencies {
                let isAllowed =
                    Layering.libraries[dependency]?.contains(room.name) ?? allowed.contains(dependency)
                #expect(isAllowed, "\(room.name) may not depend on \(dependency)")
            }
        }
        for target in targets where target.type == "executable" && target.name != "netlink-recorder" {
            #expect(Layering.executables.contains(target.name), "\(target.name) is no executable of ours")
        }
    }

    @Test("the layering has no cycle")
    func theLayeringHasNoCycle() {
        var settled: Set<String> = []
        while true {
            let next = Layering.mayKnow.filter { !settled.contains($0.key) && $0.value.isSubset(of: settled) }.keys
            if next.isEmpty { break }
            settled.formUnion(next)
        }
        let left = Set(Layering.mayKnow.keys).subtracting(settled)
        #expect(left.isEmpty, "these know each other in a circle: \(left.sorted())")
    }

    @Test("source files import what their room may know")
    func sourceFilesImportWhatTheirRoomMayKnow() async throws {
        let rooms = Set(Layering.mayKnow.keys)
        var seen = 0
        for file in try await Package.files() where file.hasPrefix("Sources/") && file.hasSuffix(".swift") {
            let room = String(file.split(separator: "/")[1])
            for (module, line) in try Package.imports(of: file) {
                seen += 1
                #expect(!["Foundation", "FoundationEssentials"].contains(module), "\(file):\(line) imports \(module)")
                if Layering.executables.contains(room) { continue }
                let allowed = try #require(Layering.mayKnow[room], "\(room) has no row in Layering.swift")
                if rooms.contains(module) {
                    #expect(allowed.contains(module), "\(file):\(line): \(room) may not import \(module)")
                }
                if let users = Layering.libraries[module] {
                    #expect(users.contains(room), "\(file):\(line): \(room) may not import \(module)")
                }
                if Layering.pure.contains(room) {
                    #expect(
                        !Layering.system.contains(module), "\(file):\(line): \(room) does no I/O, but imports \(module)"
                    )
                }
            }
        }
        #expect(seen > 20)
    }

    @Test("nothing but the log handler makes a logger or writes to standard error")
    func nothingButTheLogHandlerWrites() async throws {
        // A logger that code makes itself would ignore -q, -l and the system log.
        let words = [
            "Logger(label", "StreamLogHandler", "LoggingSystem", " print(", "debugPrint(", "perror(",
            "fprintf(", "fputs(", "stderr", "write(2,", "writev(2,", "writeToStandardError", "standardError.",
        ]
        let allowed: [String: Set<String>] = [
            "Sources/Diagnostics/TapasLogHandler.swift": ["Logger(label"],
            "Sources/Diagnostics/LogDestinations.swift": ["write(2,", "writeToStandardError"],
            // Messages before the log exists, and of a command that cannot be run, which would have used standard
            // error.
            "Sources/tapas/Program.swift": ["writeToStandardError"],
            "Sources/Engine/Engine.swift": ["writeToStandardError"],
            // A thread that cannot be protected, before it serves.
            "Sources/Engine/Filters.swift": ["writeToStandardError"],
            // The table that --stats asks for.
            "Sources/Engine/EventPrinter.swift": ["writeToStandardError"],
            "Sources/CLinux/namespace.c": ["writev(2,"],
        ]
        var seen: [String: Set<String>] = [:]
        for file in try await Package.files()
        where file.hasPrefix("Sources/") && (file.hasSuffix(".swift") || file.hasSuffix(".c")) {
            // The option of that name, and its description.
            let text = try Package.text(of: file).split(separator: "\n").filter {
                !$0.contains("///") && !($0.contains(".stderr") || $0.contains("case debug, trace, quiet"))
            }.joined(separator: "\n")
            let found = Set(words.filter { text.contains($0) })
            if !found.isEmpty { seen[file] = found }
        }
        for (file, found) in seen {
            let extra = found.subtracting(allowed[file] ?? [])
            #expect(extra.isEmpty, "\(file) writes by itself, or makes a logger: \(extra.sorted())")
        }
        let handler = "Sources/Diagnostics/LogDestinations.swift"
        #expect(seen[handler] == allowed[handler])
    }

    @Test("no source file is longer than 600 lines")
    func noSourceFileIsLongerThan600Lines() async throws {
        for file in try await Package.files()
        where file.hasSuffix(".swift") || file.hasSuffix(".c") || file.hasSuffix(".h") {
            let lines = try Package.text(of: file).utf8.count { $0 == UInt8(ascii: "\n") }
            #expect(lines <= 600, "\(file) has \(lines) lines: split it by concern")
        }
    }

    @Test("every source file begins with the licence")
    func everySourceFileBeginsWithTheLicence() async throws {
        let line = "Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0"
        for file in try await Package.files()
        where file.hasSuffix(".swift") || file.hasSuffix(".c") || file.hasSuffix(".py") {
            // Package.swift must begin with the tools version, a script with its interpreter.
            let head = try Package.text(of: file).split(separator: "\n").prefix(2)
            #expect(head.contains { $0.hasSuffix(line) }, "\(file) does not begin with: \(line)")
        }
    }

    @Test("tests that start programs say so, and do not run beside those that take ports back")
    func testsThatStartProgramsSaySo() async throws {
        var seen = 0
        for file in try await Package.files() where file.hasPrefix("Tests/") && file.hasSuffix(".swift") {
            let text = try Package.text(of: file)
            guard file.hasSuffix("Tests.swift"), !file.hasSuffix("/ArchitectureTests.swift") else { continue }
            let starts = ["processExits" + "With:", "posix_spawn" + "p(", "Subprocess." + "run("]
            guard starts.contains(where: { text.contains($0) }) else { continue }
            seen += 1
            #expect(
                text.contains(".startsPrograms") || text.contains("startingPrograms {"),
                "\(file) starts programs: see Tests/TestSupport/ForkExclusion.swift")
        }
        #expect(seen >= 5)
    }

    @Test("the top level holds what the design says")
    func theTopLevelHoldsWhatTheDesignSays() async throws {
        let allowed: Set<String> = [
            "Package.swift", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Sources", "Tests",
            "Integration", "contrib", "docs",
        ]
        let top = Set(try await Package.files().map { String($0.split(separator: "/")[0]) })
        let extra = top.filter { !$0.hasPrefix(".") }.subtracting(allowed)
        #expect(extra.isEmpty, "not at the top level, please: \(extra.sorted())")
    }
}
