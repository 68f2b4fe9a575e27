// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Glibc
import Lab
import Testing

/// An unusable `/dev/net/tun`, and the messages about it.
struct WrongTun: Sendable, CustomTestStringConvertible {
    let testDescription: String
    /// Shell commands that make `./tun`, an empty file at first, what /dev/net/tun is to be.
    let commands: String
    /// What tapas says: all of these, in one line.
    let words: [String]
    /// What the scripts of contrib say.
    let scriptWords: [String]

    init(_ description: String, _ commands: String, says words: [String], script scriptWords: [String]) {
        testDescription = description
        self.commands = commands
        self.words = words
        self.scriptWords = scriptWords
    }

    static let all: [WrongTun] = [
        .init(
            "absent", "rm tun", says: ["(ENOENT)", "modprobe tun", "--device /dev/net/tun"],
            script: ["(ENOENT)", "modprobe tun"]),
        .init(
            "a regular file", "chmod 666 tun", says: ["is not the tun device", "(ENOTTY)", "mknod"],
            script: ["is not the tun device", "mknod"]),
        .init(
            "another device", "mount --bind /dev/null tun", says: ["is not the tun device", "(ENOTTY)", "mknod"],
            script: ["is not the tun device", "mknod"]),
        .init(
            "a folder", "rm tun; mkdir -m 777 tun", says: ["(EISDIR)", "mknod"],
            script: ["is not the tun device", "mknod"]),
        .init(
            "a link to itself", "rm tun; ln -s tun tun", says: ["(ELOOP)", "mknod"],
            script: ["is not the tun device", "mknod"]),
        .init(
            "on a file system without devices", "mount --bind /dev/net/tun tun; mount -o remount,bind,nodev tun",
            says: ["(EACCES)", "nodev"], script: ["(EACCES)", "nodev"]),
    ]

    /// Cases that need several user ids, or a device node that only root of the machine may make.
    static let byRoot: [WrongTun] = [
        .init(
            "closed to the user", "mount --bind $TAPAS_LAB_DIRECTORY/dev/closed tun",
            says: ["(EACCES)", "chmod 0666 /dev/net/tun"],
            script: ["(EACCES)", "chmod 0666 /dev/net/tun"]),
        .init(
            "without a driver", "mount --bind $TAPAS_LAB_DIRECTORY/dev/none tun",
            says: ["(ENXIO)", "modprobe tun", "CONFIG_TUN"], script: ["is not the tun device"]),
    ]
}

extension Scenarios {
    /// A machine that lacks what tapas needs: one line that names it and the remedy, from tapas and from the scripts.
    ///
    ///     host with another /dev/net, or with limits of its own; tapas does not get to a network
    @Suite("missing prerequisites", .timeLimit(.minutes(2))) struct Lacks {
        @Test("/dev/net/tun", arguments: WrongTun.all)
        func theTunDevice(wrong: WrongTun) async throws {
            try await fails(with: wrong)
        }

        @Test(
            "/dev/net/tun, where only root of the machine can make it so",
            .enabled(if: User.areSeveral, "the run has one user id, and may not make devices"),
            arguments: WrongTun.byRoot)
        func theTunDeviceByRoot(wrong: WrongTun) async throws {
            try await fails(with: wrong)
        }

        private func fails(with wrong: WrongTun) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let folder = lab.newPath("net")
                try await laptop.host.must([
                    "sh", "-ec",
                    """
                    mkdir \(folder); cd \(folder); touch tun
                    \(wrong.commands)
                    mount --rbind \(folder) /dev/net
                    """,
                ])
                let outcome = try await laptop.host.tapas(["--config-net"], ["true"], as: .ordinary)
                expect(outcome, says: ["/dev/net/tun"] + wrong.words)
                let script = try await laptop.host.run(Self.script("need_tun"), as: .ordinary)
                expect(script, says: ["/dev/net/tun"] + wrong.scriptWords)
                try await eventually("nothing is left running", within: .seconds(2)) {
                    try await lab.strays().isEmpty
                }
            }
        }

        @Test("namespaces, by the limits of the user namespace that tapas runs in", arguments: ["user", "net", "pid"])
        func namespaces(kind: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                for (command, words) in [
                    ([binary, "--config-net", "--", "true"], ["(ENOSPC)", "raise sysctl user.max_"]),
                    (Self.script("need_user_namespaces"), ["(ENOSPC)", "max_\(kind)_namespaces:0"]),
                ] {
                    let outcome = try await laptop.host.run(
                        [
                            "unshare", "--user", "--map-root-user", "sh", "-ec",
                            "echo 0 > /proc/sys/user/max_\(kind)_namespaces; exec \"$@\"", "sh",
                        ] + command)
                    expect(outcome, says: words)
                }
                #expect(try await lab.strays() == [])
            }
        }

        @Test("open files and address space", arguments: ["-n 14", "-n 16", "-n 18", "-v 60000", "-v 163839"])
        func limits(limit: String) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.run(
                    ["sh", "-c", "ulimit \(limit); exec \(binary) --config-net -- echo ran"])
                let words =
                    limit.hasPrefix("-n") ? ["open files", "24", "ulimit -Hn"] : ["address space", "ulimit -v"]
                expect(outcome, says: words)
                #expect(try await lab.strays() == [])
            }
        }

        @Test("with few open files connections go on, one after the other", arguments: [24, 64, 128])
        func fewOpenFiles(count: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let fetch = "curl -sS --max-time 5 http://\(Laptop.beyond[0]):8080/"
                let outcome = try await laptop.host.run([
                    "sh", "-c",
                    """
                    ulimit -n \(count); exec \(binary) --config-net -- \
                    sh -c 'for round in 1 2 3 4; do \(fetch); sleep 0.3; done'
                    """,
                ])
                #expect(outcome.lines == [String](repeating: "hello from the lab", count: 4), "\(outcome)")
            }
        }

        @Test("with little address space it works", arguments: [163_840, 262_144])
        func littleAddressSpace(kilobytes: Int) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab)
                let outcome = try await laptop.host.run([
                    "sh", "-c",
                    """
                    ulimit -v \(kilobytes); exec \(binary) --config-net -- \
                    sh -c 'ulimit -v unlimited 2> /dev/null; exec curl -sS http://\(Laptop.beyond[0]):8080/'
                    """,
                ])
                #expect(outcome.output == "hello from the lab\n" && outcome.errors == "", "\(outcome)")
            }
        }

        @Test(
            "the capabilities over a namespace to attach to",
            arguments: [
                ("net_admin", ["cannot set lo up", "(EPERM)", "CAP_NET_ADMIN", "--userns"]),
                ("sys_admin", ["(EPERM)", "CAP_SYS_ADMIN", "--userns"]),
            ])
        func capabilities(lacking: (name: String, words: [String])) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.run([
                    "setpriv", "--bounding-set", "-\(lacking.name)", binary, "--config-net", "--quiet", "--foreground",
                    "--netns", try await laptop.host.nameFile(of: laptop.guest),
                ])
                expect(outcome, says: lacking.words)
                #expect(try await laptop.guest.networkState() == [])
            }
        }

        /// One of the checks that contrib/try.sh and contrib/test.sh make first.
        ///
        /// As text, because the ordinary user may have no way into the folder of the sources.
        private static func script(_ check: String) -> [String] {
            let package = #filePath.dropLast("Integration/Scenarios/Lacks.swift".utf8.count)
            return ["bash", "-ec", contents(of: package + "contrib/dev/common.sh") + check, "try.sh"]
        }

        private func expect(_ outcome: Outcome, says words: [String]) {
            #expect(outcome.termination == .exited(1), "\(outcome)")
            #expect(outcome.output == "" && outcome.errorLines.count == 1, "\(outcome)")
            for word in words { #expect(outcome.errors.contains(word), "says \(word): \(outcome)") }
        }
    }
}
