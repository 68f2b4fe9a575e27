// swift-tools-version: 6.2
// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Fuzzers of the parsers, one program each, in a package of their own: the whole of it is built with the sanitizer's
// coverage, and none of that reaches the product. The rooms are links into ../../Sources, as a package may only build
// what lies inside it. To add a fuzzer of `Thing`: Sources/FuzzThing/FuzzThing.swift, a line below, seeds in
// Corpus/Thing, words in Dictionaries/Thing.dict.

import PackageDescription

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
]

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Rooms/\(name)", swiftSettings: settings)
}

func fuzzer(of name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: "Fuzz\(name)", dependencies: dependencies,
        swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])])
}

let package = Package(
    name: "tapas-fuzz",
    targets: [
        .target(name: "CLinux", path: "Rooms/CLinux"),
        room("NetworkTypes"),
        room("NetworkModel", ["NetworkTypes"]),
        room("Wire", ["NetworkTypes"]),
        room("Services", ["Wire", "NetworkModel", "NetworkTypes"]),
        room("Options", ["NetworkModel", "NetworkTypes", "CLinux"]),
        room("JSON"),
        room("OCIHook", ["JSON", "Options", "NetworkTypes"]),

        fuzzer(of: "Frame", ["Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "Frames", ["Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "Hook", ["OCIHook", "Options"]),
        fuzzer(of: "PortSpecification", ["Options", "NetworkModel", "NetworkTypes"]),
    ]
)
