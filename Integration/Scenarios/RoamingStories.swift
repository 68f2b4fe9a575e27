// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

extension Scenarios {
    /// The stories of `Integration/Stories`, whose output docs/stories.md shows: each is a script that anybody can run.
    @Suite("stories", .timeLimit(.minutes(2))) struct RoamingStories {
        /// What the program in the namespace tells, in this order, with other lines between.
        struct Story: Sendable, CustomTestStringConvertible {
            let script: String
            let tells: [String]

            var testDescription: String { script }

            static let all: [Story] = [
                .init(
                    script: "boots-offline",
                    tells: ["lost the server", "fetches, seen as 192.0.2.10", "names are answered by 192.0.2.53"]),
                .init(
                    script: "train-ride",
                    tells: [
                        "fetches, seen as 192.0.2.10", "lost the server", "fetches, seen as 192.168.44.7",
                        "fetches on, seen as 10.8.0.2", "fetches on, seen as 192.168.44.7",
                    ]),
                .init(
                    script: "dhcp-client",
                    tells: [
                        "fetches, seen as 192.0.2.10", "tap7 has 192.0.2.77/24", "tap7 has 169.254.2.1/16",
                        "tap7 has 192.168.44.7/24",
                    ]),
                .init(
                    script: "another-lease",
                    tells: ["fetches, seen as 192.0.2.10", "lost the server", "fetches, seen as 192.0.2.77"]),
            ]
        }

        @Test("a program keeps fetching", arguments: Story.all)
        func aProgramKeepsFetching(story: Story) async throws {
            try await withLab { lab in
                let stage = try await lab.host("stage")
                let outcome = try await stage.run(
                    ["bash", projectFile("Integration/Stories/\(story.script).sh")],
                    environment: ["TAPAS_BINARY": binary, "TAPAS_LAB_DIRECTORY": lab.directory], within: .seconds(60))
                #expect(outcome.termination == .exited(0), "\(outcome)")
                var rest = outcome.output[...]
                for text in story.tells {
                    let found = rest.firstRange(of: "namespace: \(text)")
                    #expect(found != nil, "\(text): \(outcome)")
                    if let found { rest = rest[found.upperBound...] }
                }
                let ending = story.script == "dhcp-client" ? "one client and one program" : "one process"
                #expect(outcome.output.contains("\(ending) all the time"))
            }
        }
    }
}
