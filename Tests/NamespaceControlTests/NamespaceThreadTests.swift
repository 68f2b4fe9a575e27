// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxSystem
import NetworkModel
import SystemPackage
import TestSupport
import Testing

@testable import NamespaceControl

/// An actor that lives on the thread.
private actor Resident {
    let thread: NamespaceThread
    nonisolated var unownedExecutor: UnownedSerialExecutor { thread.asUnownedSerialExecutor() }
    private var count = 0

    init(_ thread: NamespaceThread) { self.thread = thread }

    func visit() -> (isHere: Bool, count: Int) {
        count += 1
        return (thread.isCurrent, count)
    }
}

@Suite("The namespace's thread")
struct NamespaceThreadTests {
    @Test("runs closures on itself with what they borrow, and returns their results")
    func runsClosures() throws {
        let thread = try NamespaceThread.start()
        var sum = 0
        for number in 1...1000 {
            #expect(
                thread.run {
                    sum += number; return thread.isCurrent
                })
        }
        #expect(sum == 500_500)
        #expect(!thread.isCurrent)
    }

    @Test("throws what the closure threw, as the type it is")
    func throwsTypedErrors() throws {
        let thread = try NamespaceThread.start()
        let error = SystemCallError("open", "x", .noSuchFileOrDirectory)
        do {
            try thread.run { () throws(SystemCallError) in throw error }
            Issue.record("nothing was thrown")
        } catch let caught {
            #expect(caught == error)
        }
    }

    @Test("hands over what cannot be copied")
    func handsOverDescriptors() throws {
        let thread = try NamespaceThread.start()
        let file = try thread.run { () throws(SystemCallError) in try OwnedFileDescriptor.open("/dev/null", .readOnly) }
        #expect(file.rawValue > 2)
    }

    @Test("is an actor's executor")
    func executesActors() async throws {
        let resident = Resident(try NamespaceThread.start())
        for expected in 1...100 {
            let visit = await resident.visit()
            #expect(visit.isHere)
            #expect(visit.count == expected)
        }
    }

    @Test("blocks all signals, which belong to the main thread")
    func blocksSignals() throws {
        let thread = try NamespaceThread.start()
        let isBlocked = thread.run {
            var mask = sigset_t()
            pthread_sigmask(SIG_BLOCK, nil, &mask)
            return [SIGTERM, SIGINT, SIGCHLD, SIGUSR1].allSatisfy { sigismember(&mask, $0) == 1 }
        }
        #expect(isBlocked)
    }
}

@Suite("Namespace files, the pid file, signals")
struct NamespaceFileTests {
    @Test("the present namespaces are recognised as such, in whatever kind")
    func recognisesItsOwn() throws {
        let network = try NamespaceFile(.network, path: "/proc/self/ns/net")
        let isOwnNetwork = network.isOwn
        #expect(isOwnNetwork)
        let user = try NamespaceFile(.user, path: "/proc/self/ns/user")
        let isOwnUser = user.isOwn
        #expect(isOwnUser)
        // Joining it again is refused by the kernel; for us it is nothing to do.
        try user.join()
    }

    @Test(
        "what is no namespace of its kind is refused by name",
        arguments: [
            (NamespaceFile.Kind.network, "/dev/null", "'/dev/null' is not a network namespace"),
            (.network, "/proc/self/ns/user", "'/proc/self/ns/user' is not a network namespace"),
            (.user, "/proc/self/ns/net", "'/proc/self/ns/net' is not a user namespace"),
            (
                .network, "/nonexistent",
                "cannot open network namespace '/nonexistent': No such file or directory (ENOENT)"
            ),
            (
                .network, "/proc/2147483647/ns/net",
                "cannot open network namespace '/proc/2147483647/ns/net': No such file or directory (ENOENT); "
                    + "there is no such process"
            ),
        ])
    func refusesOthers(kind: NamespaceFile.Kind, path: String, text: String) {
        do {
            _ = try NamespaceFile(kind, path: path)
            Issue.record("\(path) was taken")
        } catch {
            #expect("\(error)" == text)
        }
    }

    @Test("the network namespace that one is in is refused where there must be another")
    func refusesItsOwn() {
        #expect(throws: NamespaceError.self) {
            _ = try NamespaceFile(.network, path: "/proc/self/ns/net", refusesOwn: true)
        }
    }

    @Test("the pid file has the id and a line end, mode 0600")
    func writesThePID() throws {
        let folder = try TemporaryFolder()
        let file = try PIDFile("\(folder.path)/pid")
        var status = stat()
        #expect(stat("\(folder.path)/pid", &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(status.st_size == 0)
        try file.write()
        let written = try OwnedFileDescriptor.open("\(folder.path)/pid", .readOnly)
        var bytes = [UInt8](repeating: 0, count: 32)
        let count = read(written.rawValue, &bytes, bytes.count)
        #expect(String(decoding: bytes.prefix(max(0, count)), as: UTF8.self) == "\(getpid())\n")
    }

    @Test("signals are read with who sent them, and the mask from before is kept", .startsPrograms)
    func readsSignals() async {
        await #expect(processExitsWith: .success) {
            // The test's own thread may have them blocked.
            SignalMask(of: []).restore()
            let signals = try SignalDescriptor(of: [SIGUSR1, SIGUSR2])
            guard signals.next() == nil else { _exit(1) }
            pthread_kill(pthread_self(), SIGUSR2)
            guard let signal = signals.next(), signal.number == SIGUSR2, signal.isSentByProcess else { _exit(2) }
            guard signals.next() == nil else { _exit(3) }
            signals.previousMask.restore()
            var mask = sigset_t()
            pthread_sigmask(SIG_BLOCK, nil, &mask)
            _exit(sigismember(&mask, SIGUSR1) == 0 ? 0 : 4)
        }
    }

    @Test("sysctls are read without their line end")
    func readsSysctls() {
        #expect(Sysctl.read("/proc/sys/kernel/ostype") == "Linux")
        #expect(Sysctl.read("/proc/sys/kernel/no-such-sysctl") == nil)
    }

    @Test("the default host name is pasta- and the host's, cut off at the system's maximum")
    func makesHostNames() {
        let name = WrappedCommand.defaultHostName()
        #expect(name.hasPrefix("pasta-"))
        #expect(name.utf8.count <= 64)
    }
}

@Suite("Errors name a remedy")
struct NamespaceErrorTests {
    @Test(
        "/dev/net/tun",
        arguments: [
            (Errno.noSuchFileOrDirectory, "modprobe tun"), (.permissionDenied, "chmod 0666 /dev/net/tun"),
            (.notPermitted, "10:200"), (.operationNotSupportedByDevice, "CONFIG_TUN"),
            (.noSuchAddressOrDevice, "CONFIG_TUN"), (.isDirectory, "mknod"), (.tooManySymbolicLinkLevels, "mknod"),
        ])
    func tunDevice(errno: Errno, remedy: String) {
        let text = "\(NamespaceError.tunDevice(SystemCallError("open", "/dev/net/tun", errno)))"
        #expect(text.hasPrefix("cannot open /dev/net/tun: "))
        #expect(text.contains(errno.symbol))
        #expect(text.contains(remedy))
        #expect(!text.contains("\n"))
    }

    @Test("/dev/net/tun that its mode allows, but something else does not")
    func tunDeviceDenied() {
        let denied = SystemCallError("open", "/dev/net/tun", .permissionDenied)
        let text = "\(NamespaceError.tunDevice(denied, modeAllows: true))"
        #expect(text.contains("EACCES") && text.contains("nodev") && !text.contains("chmod"))
    }

    @Test("/dev/net/tun that is something else")
    func tunDeviceIsAnother() {
        let cause = SystemCallError("ioctl", "TUNSETIFF eth0", .inappropriateIOCTLForDevice)
        let text = "\(NamespaceError.tapInterface("eth0", cause))"
        #expect(text.contains("/dev/net/tun is not the tun device") && text.contains("mknod"))
    }

    @Test("the tap's interface", arguments: [(Errno.resourceBusy, "--ns-ifname"), (.notPermitted, "--userns")])
    func tapInterface(errno: Errno, remedy: String) {
        let text = "\(NamespaceError.tapInterface("eth0", SystemCallError("ioctl", "TUNSETIFF", errno)))"
        #expect(text.contains("'eth0'"))
        #expect(text.contains(remedy))
    }

    @Test(
        "user namespaces",
        arguments: [
            (Errno.notPermitted, "kernel.unprivileged_userns_clone"), (.noSpace, "user.max_user_namespaces"),
            (.invalidArgument, "CONFIG_USER_NS"),
        ])
    func userNamespace(errno: Errno, remedy: String) {
        #expect("\(NamespaceError.userNamespace(SystemCallError("unshare", "", errno)))".contains(remedy))
    }
}
