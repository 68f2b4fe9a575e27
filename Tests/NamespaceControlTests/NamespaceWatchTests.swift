// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage
import TestSupport
import Testing

@testable import NamespaceControl

@Suite("Watching the name of a namespace")
struct NamespaceWatchTests {
    @Test(
        "the process of a path under /proc",
        arguments: [
            ("/proc/12/ns/net", Int32?.some(12)), ("/proc/2147483647/ns/net", 2147483647), ("//proc//12/ns/net", 12),
            ("/proc/12/ns/user", nil), ("/proc/self/ns/net", nil), ("/proc/2147483648/ns/net", nil),
            ("/proc/12/task/12/ns/net", nil), ("proc/12/ns/net", nil), ("/proc/+1/ns/net", nil), ("/run/netns/a", nil),
            ("/proc/1/root/run/netns/a", nil), ("/proc/-1/ns/net", nil), ("", nil),
        ])
    func findsTheProcess(path: String, process: Int32?) {
        #expect(NamespaceWatch.process(of: path) == process)
    }

    @Test(
        "folder and base name of a path",
        arguments: [
            ("/run/netns/a", "/run/netns", "a"), ("/a", "/", "a"), ("a", ".", "a"), ("x/a", "x", "a"),
            ("/x/", "/x", ""),
        ])
    func splitsPaths(path: String, folder: String, name: String) {
        let parts = NamespaceWatch.split(path)
        #expect(parts.folder == folder)
        #expect(parts.name == name)
    }

    /// An event as inotify(7) lays it out: watch, mask, cookie, length, padded name.
    private static func event(_ mask: UInt32, _ name: String) -> [UInt8] {
        func word(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
        var padded = Array(name.utf8)
        if !padded.isEmpty { padded += [UInt8](repeating: 0, count: 16 - padded.count % 16) }
        return word(1) + word(mask) + word(0) + word(UInt32(padded.count)) + padded
    }

    @Test(
        "events of the name and of the folder count, others do not",
        arguments: [
            ([event(0x200, "ns")], true), ([event(0x40, "ns")], true),
            ([event(0x200, "nsx"), event(0x200, "n")], false),
            ([event(0x200, "other"), event(0x200, "ns")], true), ([event(0x400, "")], true),
            ([event(0x2000, "")], true),
            ([event(0x8000, "")], true), ([event(0x4000, "")], false), ([], false),
        ])
    func readsEvents(events: [[UInt8]], isGone: Bool) {
        #expect(NamespaceWatch.names(Array("ns".utf8), in: ArraySlice(events.joined())) == isGone)
    }

    @Test("truncated events never trap")
    func readsTruncatedEvents() {
        let whole = Self.event(0x200, "ns")
        for length in 0..<whole.count {
            // Whether a cut name counts does not matter; that reading ends does.
            _ = NamespaceWatch.names(Array("ns".utf8), in: whole.prefix(length))
        }
        #expect(NamespaceWatch.names(Array("ns".utf8), in: whole[...]))
    }

    @Test("a deleted file is noticed, a neighbour's is not")
    func noticesDeletion() throws {
        let folder = try TemporaryFolder()
        let (path, neighbour) = ("\(folder.path)/ns", "\(folder.path)/other")
        for path in [path, neighbour] { close(creat(path, 0o600)) }
        let watch = try NamespaceWatch(path: path)
        unlink(neighbour)
        try #require(folder.isReadable(watch.descriptor))
        #expect(!watch.isGone())
        unlink(path)
        try #require(folder.isReadable(watch.descriptor))
        #expect(watch.isGone())
    }

    @Test("a link is followed once: what it leads to is watched, not the link")
    func followsALink() throws {
        let folder = try TemporaryFolder()
        let (path, link) = ("\(folder.path)/ns", "\(folder.path)/other")
        close(creat(path, 0o600))
        symlink("ns", link)
        let watch = try NamespaceWatch(path: link)
        unlink(link)
        try #require(folder.isReadable(watch.descriptor))
        #expect(!watch.isGone())
        unlink(path)
        try #require(folder.isReadable(watch.descriptor))
        #expect(watch.isGone())
    }

    @Test("a file that is gone already is an error, not a wait for ever")
    func refusesWhatIsGone() throws {
        let folder = try TemporaryFolder()
        #expect(throws: NamespaceError("network namespace '\(folder.path)/ns' is gone already")) {
            _ = try NamespaceWatch(path: "\(folder.path)/ns")
        }
    }

    @Test("a process that ends is noticed", .startsPrograms)
    func noticesTheEndOfAProcess() throws {
        var process: pid_t = 0
        var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("cat"), nil]
        defer { arguments.forEach { free($0) } }
        var ends: [CInt] = [0, 0]
        #expect(pipe(&ends) == 0)
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawn_file_actions_adddup2(&actions, ends[0], 0)
        posix_spawn_file_actions_addclose(&actions, ends[1])
        try #require(posix_spawnp(&process, "cat", &actions, nil, &arguments, environ) == 0)
        close(ends[0])
        let watch = try NamespaceWatch(path: "/proc/\(process)/ns/net")
        let folder = try TemporaryFolder()
        #expect(!folder.isReadable(watch.descriptor, milliseconds: 0))
        close(ends[1])
        try #require(folder.isReadable(watch.descriptor))
        #expect(watch.isGone())
        var status: CInt = 0
        waitpid(process, &status, 0)
    }
}
