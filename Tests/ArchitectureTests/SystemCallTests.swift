// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import TestSupport
import Testing

@Suite("declared system calls", .startsPrograms, .timeLimit(.minutes(4))) struct SystemCallTests {
    @Test("each source file declares the system calls that it reaches, and no others")
    func eachFileDeclaresItsCalls() async throws {
        let files = try await Package.files().filter { file in
            file.hasPrefix("Sources/") && [".swift", ".c", ".h"].contains { file.hasSuffix($0) }
        }
        var texts: [String: String] = [:]
        for file in files { texts[file] = try Package.text(of: file) }
        let reach = SystemCallReach(cFiles: texts.filter { !$0.key.hasSuffix(".swift") })
        var declared: [String: Set<String>] = [:]
        for (file, text) in texts {
            declared[Self.room(file), default: []].formUnion(SystemCallReach.declaredFunctions(SourceCode.of(text)))
        }
        var declaring = 0
        for (file, text) in texts.sorted(by: { $0.key < $1.key }) {
            let reached =
                file.hasSuffix(".swift")
                ? reach.calls(
                    ofSwift: text, imports: Set(try Package.imports(of: file).map(\.module)),
                    room: declared[Self.room(file)] ?? [])
                : reach.byCFile[file] ?? []
            let declaration = SystemCallDeclaration(text)
            declaring += declaration.isEmpty ? 0 : 1
            #expect(declaration.faults == [], "\(file)")
            let missing = reached.subtracting(declaration.all).sorted()
            let extra = declaration.all.subtracting(reached).sorted()
            #expect(
                missing.isEmpty && extra.isEmpty,
                """
                \(file): // syscalls: does not declare \(missing), declares \(extra) without reaching them. All that it \
                reaches: \(reached.sorted().joined(separator: " ")). See "How to add" in docs/CONTRIBUTING.md.
                """)
        }
        #expect(declaring > 40)
    }

    @Test("the lists of the filters are what the sources declare now")
    func filterListsAreUpToDate() async throws {
        let collected = try await Package.output("python3", ["contrib/dev/system-calls"])
        let file = try Package.text(of: "Sources/Sandbox/DeclaredSystemCalls.swift")
        #expect(collected == file, "run contrib/dev/system-calls --write")
    }

    private static func room(_ file: String) -> String { String(file.split(separator: "/").dropFirst().first ?? "") }

    @Test("comments and strings are no code; what a string interpolates is")
    func commentsAndStringsAreNoCode() {
        let text = ##"""
            a() // b()
            /* c() /* d() */ e() */ f("g() \(h("i()")) \" j()")
            k(#"l() " \(m()) \#(n())"#)
            """##
        let code = SourceCode.of(text)
        for name in ["a", "f", "h", "k", "n"] { #expect(code.contains(name + "("), "\(name)") }
        for name in ["b", "c", "d", "e", "g", "i", "j", "l", "m"] { #expect(!code.contains(name + "("), "\(name)") }
        #expect(code.split(separator: "\n", omittingEmptySubsequences: false).count == 3)
    }

    @Test("what C functions reach is found through those that they call")
    func cFunctionsReach() {
        let text = """
            #include <unistd.h>
            struct pair { int a; };
            static const int numbers[] = { 1, 2 };
            static int helper(int fd)
            {
                return close(fd); // dup2(1, 2)
            }
            int tapas_short(void) { return (int)syscall(SYS_pidfd_open, 1, 0); }
            int tapas_long(int fd,
                           const char *text) {
                if (fd < 0) return tapas_short();
                return helper(fd);
            }
            int tapas_broken(void) {
                return (int)syscall(
                    SYS_open_tree, 1, "");
            }
            """
        let reach = SystemCallReach(cFiles: ["a.c": text])
        #expect(reach.ours["helper"] == ["close"])
        #expect(reach.ours["tapas_short"] == ["pidfd_open"])
        #expect(reach.ours["tapas_long"] == ["close", "pidfd_open"])
        #expect(reach.ours["tapas_broken"] == ["open_tree"])
        #expect(reach.byCFile == ["a.c": ["close", "open_tree", "pidfd_open"]])
    }

    @Test("what Swift code reaches: functions, not methods, declarations or labels")
    func swiftCodeReaches() {
        let reach = SystemCallReach(cFiles: ["a.c": "int tapas_splice(void) { return splice(); }\n"])
        func calls(_ text: String, imports: Set<String> = ["Glibc"]) -> Set<String> {
            reach.calls(ofSwift: text, imports: imports)
        }
        #expect(calls("_ = unsafe Glibc.read(3, &bytes, 1)\nself.write(4); file.close()") == ["read"])
        #expect(calls("tapas_splice()") == ["splice"])
        #expect(calls("func bind(to: Int) {}\nbind(to: 3); Glibc.listen(3, 1)") == ["listen"])
        let shadowed = "send(datagram); unsafe send(3, bytes, 1, 0)"
        #expect(reach.calls(ofSwift: "send(datagram)", imports: ["Glibc"], room: ["send"]) == [])
        #expect(reach.calls(ofSwift: shadowed, imports: ["Glibc"], room: ["send"]) == ["sendto"])
        #expect(calls("kill(1, 2)", imports: ["NetworkTypes"]) == [])
        #expect(calls("enum Ending {\n    case signal(Int32)\n}") == [])
        #expect(calls("_ = if_nametoindex(name)") == ["close", "ioctl", "socket"])
        #expect(calls("try OwnedFileDescriptor\n    .open(path, .readOnly)", imports: []) == ["openat", "close"])
    }

    @Test("a declaration names phases and threads that exist, and no call twice")
    func declarations() {
        let good = SystemCallDeclaration(
            """
            // syscalls: setup(main): socket bind; running(data-path, control): read
            // syscalls: running(control): close
            """)
        #expect(good.faults == [])
        #expect(
            good.calls == [
                "setup(main)": ["socket", "bind"], "running(data-path)": ["read"],
                "running(control)": ["read", "close"],
            ])
        let bad = [
            "read write", "later(main): read", "setup(nobody): read", "setup(main):", "setup(main): read read",
            "running(main): read", "setup(ports): read", "called(control): read",
        ]
        for bad in bad {
            #expect(SystemCallDeclaration("// syscalls: \(bad)").faults.count >= 1, "\(bad)")
        }
    }
}
