// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import OCIHook
import Testing

@Suite("The state of a container") struct ContainerStateTests {
    private static func parse(_ text: String) throws(HookError) -> ContainerState {
        try ContainerState(parsing: Array(text.utf8))
    }

    @Test("is read as crun writes it")
    func isRead() throws {
        let state = try Self.parse(
            #"""
            {"ociVersion":"1.0","id":"c1","pid":9,"root":"rootfs","bundle":"/path","status":"created",
             "annotations":{"io.tapas.options":"--mtu 1400","other":""}}
            """#)
        #expect(state.id == "c1" && state.processID == 9 && state.status == "created")
        #expect(state.annotations == ["io.tapas.options": "--mtu 1400", "other": ""])
    }

    @Test(
        "of any version 1.x is read, with what may be missing missing",
        arguments: ["1", "1.0", "1.0.2-dev", "1.1.0", "1.2.1", "1.99"])
    func versions(version: String) throws {
        let state = try Self.parse(#"{"ociVersion":"\#(version)","id":"x"}"#)
        #expect(state.processID == 0 && state.status.isEmpty && state.annotations.isEmpty)
    }

    @Test(
        "is refused in one line that says why",
        arguments: [
            ("", "is empty"),
            ("{", "is no JSON: "),
            ("[]", "is no JSON object"),
            (#"{"id":"x"}"#, "has no ociVersion"),
            (#"{"ociVersion":1,"id":"x"}"#, "has no ociVersion"),
            (#"{"ociVersion":"2.0","id":"x"}"#, "has ociVersion '2.0'; 1.x is understood"),
            (#"{"ociVersion":"10.0","id":"x"}"#, "has ociVersion '10.0'"),
            (#"{"ociVersion":"1.0"}"#, "has no id"),
            (#"{"ociVersion":"1.0","id":""}"#, "has no id"),
            (#"{"ociVersion":"1.0","id":"x","pid":"9"}"#, "has no process id in pid"),
            (#"{"ociVersion":"1.0","id":"x","pid":-1}"#, "has no process id in pid"),
            (#"{"ociVersion":"1.0","id":"x","pid":1e3}"#, "has no process id in pid"),
            (#"{"ociVersion":"1.0","id":"x","pid":4294967297}"#, "has no process id in pid"),
            (#"{"ociVersion":"1.0","id":"x","status":3}"#, "has a status that is no string"),
            (#"{"ociVersion":"1.0","id":"x","annotations":[]}"#, "has annotations that are no object"),
            (
                #"{"ociVersion":"1.0","id":"x","annotations":{"a\nb":1}}"#,
                #"has an annotation 'a\nb' that is no string"#
            ),
        ])
    func isRefused(text: String, problem: String) throws {
        let error = try #require(throws: HookError.self) { try Self.parse(text) }
        #expect("\(error)".hasPrefix("the container's state on standard input: \(problem)"), "\(error)")
        #expect(!"\(error)".contains("\n"))
    }

    @Test("longer than 1 MiB is refused unread")
    func tooLong() {
        let bytes = [UInt8](repeating: 0x20, count: ContainerState.greatestLength + 1)
        #expect(throws: HookError.self) { try ContainerState(parsing: bytes) }
    }

    @Test(
        "gives a file name that stays in its folder",
        arguments: [
            ("c1", "c1"), ("A_b-c.9", "A_b-c.9"), ("../x", "%2E.%2Fx"), (".", "%2E"), ("a/b", "a%2Fb"), ("é", "%C3%A9"),
            (String(repeating: "x", count: 201), nil),
        ] as [(String, String?)])
    func fileName(id: String, name: String?) throws {
        #expect(try Self.parse(#"{"ociVersion":"1.0","id":"\#(id)"}"#).fileName == name)
    }

    @Test("fits createRuntime before the container runs, and poststop at any time")
    func fitsItsStage() throws {
        func state(_ status: String, _ process: Int) throws -> ContainerState {
            try Self.parse(#"{"ociVersion":"1.0","id":"x","pid":\#(process),"status":"\#(status)"}"#)
        }
        let create = try HookStage(argument: nil)
        #expect(create == .createRuntime)
        #expect(try HookStage(argument: "createRuntime") == .createRuntime)
        try create.check(state("created", 9))
        try create.check(state("creating", 9))
        #expect(throws: HookError.self) { try create.check(state("running", 9)) }
        #expect(throws: HookError.self) { try create.check(state("created", 0)) }
        try HookStage(argument: "poststop").check(state("stopped", 0))
    }

    @Test(
        "other stages are one line",
        arguments: ["prestart", "createContainer", "startContainer", "poststart", "", "a\nb"])
    func otherStages(argument: String) throws {
        let error = try #require(throws: HookError.self) { try HookStage(argument: argument) }
        #expect("\(error)".contains("not supported: use this hook in createRuntime"))
        #expect(!"\(error)".contains("\n"))
    }
}
