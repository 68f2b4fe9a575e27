// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import LinuxSystem

@Suite("Files that options name", .startsPrograms) final class OutputFileTests {
    private let folder: String

    init() throws {
        var template = Array("/tmp/tapas-output-XXXXXX".utf8CString)
        try #require(mkdtemp(&template) != nil)
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        system("rm -rf '\(folder)'")
    }

    private func shell(_ command: String) {
        #expect(system("cd '\(folder)' && \(command)") == 0, "\(command)")
    }

    private func output(_ name: String) -> OutputFile {
        OutputFile("\(folder)/\(name)", purpose: "list") { $0.starts(with: "list ".utf8) }
    }

    /// Opens a file; the error's words, or nil where it is open.
    private func refusal(_ name: String, becoming user: (user: UInt32, group: UInt32)? = nil) -> String? {
        do throws(OutputFileError) {
            _ = try output(name).open(becoming: user)
            return nil
        } catch {
            return error.description
        }
    }

    @Test("a new file is made with mode 0600; one of the same purpose is emptied; another one is left alone")
    func replacesItsOwnOnly() {
        #expect(refusal("new") == nil)
        shell("test $(stat -c %a-%s new) = 600-0")
        shell("echo list of things > mine; echo precious > other; : > empty")
        #expect(refusal("mine") == nil)
        shell("test ! -s mine")
        #expect(refusal("empty") == nil)
        #expect(refusal("other") == "exists and is not a list: remove it or choose another name")
        shell("test \"$(cat other)\" = precious")
    }

    @Test("a link is followed to what is there, never to what would have to be made")
    func links() {
        shell("echo precious > other; ln -s other link; ln -s nowhere dangling; echo list > mine; ln -s mine good")
        #expect(refusal("link") == "exists and is not a list: remove it or choose another name")
        #expect(refusal("dangling") == "the link leads nowhere")
        shell("test ! -e nowhere; test \"$(cat other)\" = precious")
    }

    @Test("a pipe is opened only if somebody reads it, and nothing waits")
    func pipes() throws {
        shell("mkfifo pipe")
        #expect(refusal("pipe") == "nobody reads this pipe")
        let reader = open("\(folder)/pipe", O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        let file = try output("pipe").open(becoming: nil)
        #expect(write(file.rawValue, "x", 1) == 1)
    }

    @Test("a reader that waits for a writer of the pipe meets no other one, whose end it would take for the end")
    func pipesAreOpenedOnce() throws {
        shell("mkfifo pipe")
        let reader = open("\(folder)/pipe", O_RDONLY | O_NONBLOCK)
        defer { close(reader) }
        let events = inotify_init1(CInt(IN_NONBLOCK))
        defer { close(events) }
        try #require(inotify_add_watch(events, "\(folder)/pipe", UInt32(IN_CLOSE_WRITE)) >= 0)
        let file = try output("pipe").open(becoming: nil)
        var buffer = [UInt8](repeating: 0, count: 256)
        #expect(read(events, &buffer, buffer.count) < 0 && errno == EAGAIN, "it was opened for writing, and closed")
        _ = consume file
        #expect(read(events, &buffer, buffer.count) > 0, "the watch works")
    }

    @Test("devices can be written; folders and sockets cannot")
    func others() throws {
        _ = try OutputFile("/dev/null", purpose: "list") { _ in false }.open(becoming: nil)
        shell("mkdir sub")
        #expect(refusal("sub") == "cannot open: Is a directory (EISDIR)")
        #expect(refusal("none/file") == "cannot open: No such file or directory (ENOENT)")
    }

    @Test(
        "root opens a file with the rights of the user that it becomes",
        .enabled(if: geteuid() == 0, "only root can become somebody else"))
    func asAnotherUser() async {
        // In a process of its own: the ids of all threads change for a moment.
        await #expect(processExitsWith: .success) {
            let test = try OutputFileTests()
            let nobody: (user: UInt32, group: UInt32) = (65534, 65534)
            func must(_ condition: Bool, _ status: CInt) {
                if !condition { _exit(status) }
            }
            func shell(_ command: String, _ status: CInt) {
                must(system("cd '\(test.folder)' && \(command)") == 0, status)
            }
            // In a folder that everybody may write to, where another user has put links to a file of root's.
            shell("chmod 1777 .; mkdir secret; chmod 700 secret; echo 'list of root' > secret/list", 1)
            shell("ln -s secret/list theirs; chown -h 4242:4242 theirs", 2)
            let denied = test.refusal("theirs", becoming: nobody)
            must(denied?.hasPrefix("cannot open: Permission denied (EACCES); it is opened as user 65534") == true, 3)
            shell("test \"$(cat secret/list)\" = 'list of root'", 4)
            must(test.refusal("new", becoming: nobody) == nil, 5)
            shell("test $(stat -c %u:%g new) = 65534:65534", 6)
            // In a folder that is root's alone nobody else has a say.
            must(test.refusal("secret/new", becoming: nobody) == nil, 7)
            shell("test $(stat -c %u secret/new) = 0", 8)
            must(test.refusal("secret/list", becoming: nobody) == nil, 9)
            shell("test ! -s secret/list", 10)
            must(geteuid() == 0 && getegid() == 0, 11)
            exit(0)
        }
    }

    @Test(
        "root's rights are used only where nobody else can have influenced the path",
        .enabled(if: geteuid() == 0, "only root can give files away"))
    func trusts() {
        shell("mkdir -m 755 roots open theirs; chmod 777 open; chown 4242 theirs; mkdir open/sub theirs/sub")
        shell("ln -s ../roots roots/link; ln -s /etc theirs/link; ln -s ../open roots/out; touch roots/file")
        for (path, isTrusted) in [
            ("roots/new", true), ("roots/file", true), ("roots/link/new", true), ("roots/../roots/new", true),
            ("open/new", false), ("open/sub/new", false), ("theirs/sub/new", false), ("theirs/link/new", false),
            ("roots/out/new", false), ("roots/none/new", false), ("roots", false), ("", false),
        ] {
            // The test's folder is root's, below a sticky /tmp.
            let place = TrustedPath.resolve(path.isEmpty ? "" : "\(folder)/\(path)")
            if case .some = place { #expect(isTrusted, "\(path)") } else { #expect(!isTrusted, "\(path)") }
        }
    }
}
