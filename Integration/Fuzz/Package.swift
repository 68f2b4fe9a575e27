// swift-tools-version: 6.2
// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Fuzzers of the parsers, one program each, in a package of their own: the whole package is built with the sanitizer's
// coverage, which never reaches the product. The rooms are links into ../../Sources, because a package can only build
// files inside it. To add a fuzzer of `Thing`: Sources/FuzzThing/FuzzThing.swift, a line below, seeds in Corpus/Thing,
// words in Dictionaries/Thing.dict.

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

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let systemPackage: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")

func room(_ name: String, _ dependencies: [Target.Dependency] = [], _ more: [SwiftSetting] = []) -> Target {
    .target(name: name, dependencies: dependencies, path: "Rooms/\(name)", swiftSettings: settings + more)
}

func fuzzer(of name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(
        name: "Fuzz\(name)", dependencies: dependencies,
        swiftSettings: settings + [.unsafeFlags(["-parse-as-library"])])
}

let package = Package(
    name: "tapas-fuzz",
    dependencies: [
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
    ],
    targets: [
        .target(name: "CLinux", path: "Rooms/CLinux"),
        room("NetworkTypes"),
        room("NetworkModel", ["NetworkTypes"]),
        room("Wire", ["NetworkTypes"]),
        room("Services", ["Wire", "NetworkModel", "NetworkTypes"]),
        room("LinuxSystem", ["CLinux", "NetworkTypes", systemPackage]),
        // The link in memory is for tests, and internal.
        room(
            "Forwarding",
            [
                "Wire", "Services", "Policy", "VirtualMachine", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes",
                systemPackage, logging,
            ],
            [.unsafeFlags(["-enable-testing"])]),
        room("VirtualMachine"),
        .systemLibrary(name: "CMnl", path: "Rooms/CMnl", pkgConfig: "libmnl"),
        room("Netlink", ["CMnl", "CLinux", "LinuxSystem", "NetworkModel", "NetworkTypes", systemPackage]),
        room("Policy", ["Wire", "JSON", "NetworkTypes"]),
        room("Options", ["Policy", "NetworkModel", "NetworkTypes", "CLinux"]),
        room("JSON"),
        room("OCIHook", ["JSON", "Options", "NetworkTypes"]),
        // The pure part of the room Control, as links to single files.
        room("ControlProtocol", ["JSON", "NetworkModel", "NetworkTypes"]),

        // The same of the room HostMonitor.
        room("ResolverFiles", ["NetworkModel", "NetworkTypes"]),
        .target(
            name: "FuzzSupport", dependencies: ["NetworkModel", "NetworkTypes"], path: "Sources/Support",
            swiftSettings: settings),

        fuzzer(of: "CommandLine", ["Options"]),
        fuzzer(of: "DHCPv4", ["FuzzSupport", "Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "DHCPv6", ["FuzzSupport", "Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "DNS", ["Wire", "NetworkTypes"]),
        fuzzer(of: "EgressRules", ["Policy", "Wire", "NetworkTypes"]),
        fuzzer(of: "NDP", ["FuzzSupport", "Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "Netlink", ["Netlink"]),
        fuzzer(of: "Resolver", ["ResolverFiles", "NetworkModel"]),
        fuzzer(of: "ServerNames", ["Policy", "Wire", "NetworkTypes"]),
        fuzzer(of: "SocketList", ["Netlink"]),
        fuzzer(of: "TCPOptions", ["FuzzSupport", "Wire", "NetworkTypes"]),
        fuzzer(
            of: "DataPath", ["Forwarding", "LinuxSystem", "Services", "Wire", "NetworkModel", "NetworkTypes", logging]),
        fuzzer(of: "Control", ["ControlProtocol", "JSON"]),
        fuzzer(of: "Frame", ["FuzzSupport", "Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "Frames", ["Services", "Wire", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "Hook", ["OCIHook", "Options"]),
        fuzzer(of: "Pesto", ["ControlProtocol", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "PortSpecification", ["Options", "NetworkModel", "NetworkTypes"]),
        fuzzer(of: "StreamFrames", ["VirtualMachine"]),
        fuzzer(of: "VhostUser", ["VirtualMachine"]),
    ]
)
