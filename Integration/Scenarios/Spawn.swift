// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    @Suite("tapas runs a command in a namespace of its own", .timeLimit(.minutes(2))) struct Spawn {
        @Test("its exit status is the command's", arguments: [0, 1, 3, 42, 255], User.allCases)
        func itsExitStatusIsTheCommands(status: Int32, user: User) async throws {
            try await withLab { lab in
                let laptop = try await Laptop(in: lab, serving: false)
                let outcome = try await laptop.host.tapas(["--config-net"], ["sh", "-c", "exit \(status)"], as: user)
                #expect(outcome.termination == .exited(status), "\(outcome)")
            }
        }
    }
}
