// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import CLinux
import Glibc
import TestSupport
import Testing

@testable import Sandbox

@Suite("filters of system calls", .startsPrograms, .timeLimit(.minutes(2))) struct SystemCallFilterTests {
    @Test(
        "no list of the engine lets it open files, run programs, join namespaces or trace",
        arguments: FilteredSubject.allCases)
    func whatNobodyMay(_ subject: FilteredSubject) {
        let rules = SystemCallRules(for: subject, signalling: [1])
        var forbidden: Set = [
            "execve", "execveat", "setns", "unshare", "ptrace", "process_vm_readv", "bpf", "mount",
            "pivot_root", "chroot", "open_by_handle_at", "init_module", "keyctl", "io_uring_setup", "userfaultfd",
            "perf_event_open", "memfd_create", "seccomp", "setresuid", "pidfd_getfd", "clone3",
        ]
        // What it is for: the descriptors and the memory of the command's processes, with the caller's capabilities.
        if subject == .nativeSockets { forbidden.subtract(["process_vm_readv", "pidfd_getfd"]) }
        if subject.isEngine { forbidden.formUnion(["open", "openat", "openat2", "clone", "fork", "vfork", "capset"]) }
        #expect(forbidden.intersection(rules.allowed.keys) == [])
    }

    @Test("the lists are short: the data path's has at most 55 calls")
    func listsAreShort() {
        for subject in FilteredSubject.allCases {
            let count = SystemCallRules(for: subject, signalling: [1]).count
            print("measured: \(subject.name) may make \(count) system calls")
            #expect(count <= 55, "\(subject.name)")
        }
    }

    @Test("the init, which loads its filter late, has only calls that the sources declare for it")
    func initHasDeclaredCalls() {
        for subject in [FilteredSubject.commandInit, .commandInitWithResolver] {
            #expect(Set(subject.calls).subtracting(DeclaredSystemCalls.commandInit) == [])
        }
    }

    @Test("a signal goes only to the processes that were named")
    func signals() {
        let rules = SystemCallRules(for: .dataPath, signalling: [17, -18])
        let allowed = rules.allowed["kill"]?.map { $0.map(\.value) }
        #expect(allowed == [[17], [0xFFFF_FFEE]])
        #expect(SystemCallRules(for: .ports, signalling: []).allowed["kill"] == nil)
    }

    @Test("the data path's filter ends a process that runs a program")
    func dataPathRunsNoProgram() async {
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.dataPath)
            var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("true"), nil]
            execv("/bin/true", &arguments)
        }
    }

    @Test("the control loop's filter ends a process that makes a socket to the network")
    func controlMakesNoSocket() async {
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.control)
            _ = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        }
    }

    @Test("the ports' filter ends a process that sends a signal")
    func portsSendNoSignal() async {
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.ports)
            kill(getpid(), 0)
        }
    }

    @Test("the filter of the thread in the namespace ends a process that would join another")
    func namespaceThreadJoinsNothing() async {
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.namespace)
            _ = tapas_setns(0, CInt(TAPAS_NEW_NETWORK))
        }
    }

    @Test("the filter of the process that watches resolv.conf ends one that connects")
    func watcherDoesNotConnect() async {
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.resolverWatcher)
            _ = socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0)
        }
    }

    @Test("the init's filter ends a process that mounts")
    func initMountsNothing() async {
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.commandInit)
            _ = umount2("/nowhere", 0)
        }
    }

    @Test("files cannot be opened, memory cannot be made executable, packet sockets cannot be made")
    func argumentsAreCompared() async {
        await #expect(processExitsWith: .exitCode(23)) {
            try Self.load(.dataPath)
            let file = open("/dev/null", O_RDONLY)
            exit(file < 0 && errno == ENOENT ? 23 : 1)
        }
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.dataPath)
            _ = mmap(nil, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        }
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.dataPath)
            _ = socket(AF_PACKET, CInt(SOCK_RAW.rawValue), 0)
        }
        await #expect(processExitsWith: .signal(SIGSYS)) {
            try Self.load(.dataPath)
            kill(1, 0)
        }
    }

    @Test("with --seccomp-log such a call is only logged")
    func loggedCallsGoOn() async {
        await #expect(processExitsWith: .exitCode(24)) {
            #expect(tapas_set_no_new_privileges() == 0)
            try SystemCallFilter(for: .control, violation: .isLogged).load()
            exit(socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0) >= 0 ? 24 : 1)
        }
    }

    private static func load(_ subject: FilteredSubject) throws {
        _ = tapas_set_no_new_privileges()
        try SystemCallFilter(for: subject).load()
    }
}
