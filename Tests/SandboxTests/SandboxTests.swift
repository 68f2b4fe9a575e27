// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import LinuxSystem
import Sandbox
import SystemPackage
import TestSupport
import Testing

/// Reads a line of /proc/thread-self/status.
private func statusField(_ name: String) -> String? {
    guard let file = try? OwnedFileDescriptor.open("/proc/thread-self/status", .readOnly) else { return nil }
    var bytes = [UInt8](repeating: 0, count: 8192)
    let count = read(file.rawValue, &bytes, bytes.count)
    let lines = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
    return lines.first { $0.hasPrefix("\(name):") }?.split(separator: "\t").last.map { String($0) }
}

@Suite("Sandbox", .startsPrograms)
struct SandboxTests {
    @Test("restricting a thread empties its sets, whether it had capabilities or not")
    func restrictingEmptiesTheSets() async {
        await #expect(processExitsWith: .success) {
            try Capabilities.restrictThread(to: [])
            for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
                guard statusField(set) == "0000000000000000" else { _exit(1) }
            }
            guard !Capabilities.isPermitted(.networkAdministration) else { _exit(2) }
            _exit(0)
        }
    }

    @Test("restricting keeps no capability that was not there, and those that were")
    func restrictingKeepsWhatWasThere() async {
        await #expect(processExitsWith: .success) {
            let had = Capabilities.isPermitted(.bindPrivilegedPorts)
            try Capabilities.restrictThread(to: [.bindPrivilegedPorts])
            let wanted = had ? "0000000000000400" : "0000000000000000"
            guard statusField("CapPrm") == wanted, statusField("CapEff") == wanted else { _exit(1) }
            guard !Capabilities.isPermitted(.systemAdministration) else { _exit(2) }
            _exit(0)
        }
    }

    @Test("the bounding set is empty afterwards, if that was permitted")
    func emptiesTheBoundingSet() async {
        await #expect(processExitsWith: .success) {
            let mayDrop = Capabilities.isPermitted(Capability(rawValue: 8))  // CAP_SETPCAP
            let before = statusField("CapBnd")
            Capabilities.emptyBoundingSet()
            _exit(statusField("CapBnd") == (mayDrop ? "0000000000000000" : before) ? 0 : 1)
        }
    }

    @Test("no new privileges, not dumpable")
    func hardens() async {
        await #expect(processExitsWith: .success) {
            try ProcessLimits.forbidNewPrivileges()
            try ProcessLimits.forbidTracing()
            guard statusField("NoNewPrivs") == "1" else { _exit(1) }
            // Not dumpable: /proc/self belongs to root.
            var status = stat()
            guard stat("/proc/self/status", &status) == 0, status.st_uid == 0 else { _exit(2) }
            _exit(0)
        }
    }

    @Test("the limit of open files is raised to the hard one")
    func raisesOpenFiles() async {
        await #expect(processExitsWith: .success) {
            var limit = rlimit(rlim_cur: 64, rlim_max: 128)
            guard setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { _exit(1) }
            guard ProcessLimits.raiseOpenFiles() == 128 else { _exit(2) }
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            _exit(limit.rlim_cur == 128 ? 0 : 3)
        }
    }

    @Test("inherited descriptors are closed but for those to keep")
    func closesInherited() async {
        await #expect(processExitsWith: .success) {
            exitAsProcessOfOneThread {
                let opened = (0..<6).map { _ in open("/dev/null", O_RDONLY) }
                let kept = [opened[4], opened[1]]
                InheritedDescriptors.closeAll(keeping: kept.map { FileDescriptor(rawValue: $0) })
                var status = stat()
                for number in opened {
                    guard (fstat(number, &status) == 0) == kept.contains(number) else { return 1 }
                }
                for number: CInt in 0...2 where fstat(number, &status) != 0 { return 2 }
                return 0
            }
        }
    }

    @Test("missing standard descriptors become /dev/null")
    func fillsStandard() async {
        await #expect(processExitsWith: .success) {
            exitAsProcessOfOneThread {
                close(0)
                close(1)
                InheritedDescriptors.fillStandard()
                var status = stat()
                var null = stat()
                guard stat("/dev/null", &null) == 0 else { return 1 }
                for number: CInt in 0...1 {
                    guard fstat(number, &status) == 0, status.st_rdev == null.st_rdev else { return 2 }
                }
                return 0
            }
        }
    }

    @Test("names of users and groups")
    func looksNamesUp() {
        #expect(Accounts.user(named: "root") == Identity(user: 0, group: 0))
        #expect(Accounts.group(named: "root") == 0)
        #expect(Accounts.user(named: "no-such-user-here") == nil)
        #expect(Accounts.group(named: "no-such-group-here") == nil)
    }

    @Test("becoming who one is changes nothing and needs no privilege")
    func becomesOneself() async {
        await #expect(processExitsWith: .success) {
            let identity = Identity.current
            try identity.become()
            _exit(Identity.current == identity ? 0 : 1)
        }
    }
}

/// Ends as a fork of this process does that runs `body`.
///
/// The fork has one thread, as the program has when it looks after its descriptors. The test runner's process has
/// others, which open files meanwhile.
private func exitAsProcessOfOneThread(_ body: () -> Int32) -> Never {
    let child = tapas_fork()
    if child == 0 { _exit(body()) }
    var status: CInt = 0
    guard child > 0, waitpid(child, &status, 0) == child, status & 0x7F == 0 else { _exit(99) }
    _exit((status >> 8) & 0xFF)
}
