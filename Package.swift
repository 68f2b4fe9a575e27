// swift-tools-version: 6.2
// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import PackageDescription

/// What every target of ours compiles with (docs/CONTRIBUTING.md says why each is on).
let commonSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableExperimentalFeature("Lifetimes"),
    .treatAllWarnings(as: .error),
]

/// What makes the programs smaller.
///
/// No table of exported symbols (nothing is loaded at run time that could use it), and
/// one copy of functions that are the same. `-z now` lets the kernel keep the table of imports read-only.
let programLinkerSettings: [LinkerSetting] = [
    .unsafeFlags(
        ["-Xlinker", "--no-export-dynamic", "-Xlinker", "--icf=safe", "-Xlinker", "-z", "-Xlinker", "now"],
        .when(platforms: [.linux], configuration: .release))
]

/// Products also declare every unsafe construct; tests cannot (`#expect` expands to code that does not say `unsafe`).
///
/// Without the implicit import of `_StringProcessing`, `text.contains(":")` means the character, and nothing links the
/// parser of regular expressions to the program.
let productSettings: [SwiftSetting] =
    commonSettings + [
        .strictMemorySafety(),
        .unsafeFlags(["-Xfrontend", "-disable-implicit-string-processing-module-import"]),
    ]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let systemPackage: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")
let subprocess: Target.Dependency = .product(name: "Subprocess", package: "swift-subprocess")

func room(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: productSettings)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: "\(name)Tests",
        dependencies: [.init(stringLiteral: name), "TestSupport"] + dependencies,
        swiftSettings: commonSettings)
}

let package = Package(
    name: "tapas",
    products: [
        .executable(name: "tapas", targets: ["tapas"]),
        .executable(name: "tapasctl", targets: ["tapasctl"]),
        .executable(name: "tapas-oci-hook", targets: ["tapas-oci-hook"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.0"),
        .package(url: "https://github.com/swiftlang/swift-subprocess", from: "1.0.0", traits: []),
    ],
    targets: [
        // C: prototypes and system libraries.
        .target(name: "CLinux"),
        .systemLibrary(name: "CMnl", pkgConfig: "libmnl", providers: [.apt(["libmnl-dev"])]),
        .systemLibrary(name: "CCap", pkgConfig: "libcap", providers: [.apt(["libcap-dev"])]),
        .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),

        // Pure rooms: values in, values out.
        room("NetworkTypes"),
        room("NetworkModel", ["NetworkTypes"]),
        room("Wire", ["NetworkTypes"]),
        room("Options", ["NetworkModel", "NetworkTypes", "Policy", "CLinux"]),
        room("Planning", ["NetworkModel", "NetworkTypes"]),
        room("Services", ["Wire", "NetworkModel", "NetworkTypes"]),
        room("VirtualMachine"),
        room("JSON"),
        room("OCIHook", ["JSON", "Options", "NetworkTypes"]),
        room("Policy", ["JSON", "Wire", "NetworkTypes"]),

        // Rooms that touch the system.
        room("LinuxSystem", ["CLinux", "NetworkTypes", systemPackage]),
        room("Diagnostics", ["LinuxSystem", "CLinux", "NetworkTypes", systemPackage, logging]),
        room("Netlink", ["CMnl", "CLinux", "LinuxSystem", "NetworkModel", "NetworkTypes", systemPackage]),
        room(
            "HostMonitor", ["Netlink", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes", systemPackage, logging]),
        room(
            "NamespaceControl",
            ["Netlink", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes", systemPackage, logging]),
        room(
            "Forwarding",
            [
                "Wire", "Services", "VirtualMachine", "Policy", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes",
                systemPackage, logging,
            ]),
        room(
            "PortForwarding",
            ["Netlink", "Policy", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes", systemPackage, logging]),
        room("Sandbox", ["CCap", "CSeccomp", "CLinux", "LinuxSystem", systemPackage]),
        room(
            "Control", ["JSON", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes", systemPackage, logging]),

        room("ControlClient", ["Control", "JSON", "LinuxSystem", "CLinux", "NetworkTypes", systemPackage]),

        room(
            "NativeSockets",
            ["JSON", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes", systemPackage]),

        // The order of start-up, following, serving: what the executable calls.
        room(
            "Engine",
            [
                "Options", "Planning", "Netlink", "HostMonitor", "NamespaceControl", "Forwarding", "PortForwarding",
                "Sandbox", "Diagnostics", "Control", "JSON", "Policy", "Wire", "LinuxSystem", "CLinux", "NetworkModel",
                "NetworkTypes", "NativeSockets", systemPackage, logging,
            ]),
        .executableTarget(
            name: "tapas",
            dependencies: ["Engine", "Options", "Sandbox", "Diagnostics", "LinuxSystem", "NetworkTypes"],
            swiftSettings: productSettings, linkerSettings: programLinkerSettings),

        .executableTarget(
            name: "tapasctl",
            dependencies: [
                "ControlClient", "Control", "JSON", "LinuxSystem", "NetworkTypes", systemPackage, argumentParser,
            ],
            swiftSettings: productSettings, linkerSettings: programLinkerSettings),
        .executableTarget(
            name: "tapas-oci-hook",
            dependencies: ["OCIHook", "LinuxSystem", "NetworkTypes", "CLinux", systemPackage, argumentParser],
            swiftSettings: productSettings, linkerSettings: programLinkerSettings),

        // Tests without root.
        // A test target without tests: ordinary targets are built by a plain `swift build`, where Testing may be missing.
        .testTarget(
            name: "TestSupport", dependencies: ["CLinux", "NetworkTypes"], path: "Tests/TestSupport",
            swiftSettings: commonSettings),
        tests(of: "NetworkTypes"),
        tests(of: "NetworkModel", ["NetworkTypes"]),
        tests(of: "Wire", ["NetworkTypes"]),
        tests(of: "JSON"),
        tests(of: "Options", ["Policy", "NetworkModel", "NetworkTypes"]),
        tests(of: "Planning", ["NetlinkTestSupport", "NetworkModel", "NetworkTypes", systemPackage]),
        tests(of: "Services", ["Wire", "NetworkModel", "NetworkTypes"]),
        tests(of: "VirtualMachine"),
        tests(of: "OCIHook", ["Options"]),
        tests(of: "Policy", ["JSON", "Wire", "NetworkTypes"]),
        tests(of: "LinuxSystem", ["NetworkTypes", systemPackage]),
        tests(of: "Diagnostics", [logging, "LinuxSystem", systemPackage]),
        tests(
            of: "Netlink",
            ["NetlinkTestSupport", "CLinux", "NetworkModel", "NetworkTypes", "LinuxSystem", systemPackage]),
        tests(
            of: "HostMonitor",
            [
                "NetlinkTestSupport", "NetworkModel", "NetworkTypes", "LinuxSystem", "Netlink", "Planning",
                systemPackage, logging,
            ]),
        tests(
            of: "NamespaceControl",
            ["NetlinkTestSupport", "NetworkModel", "NetworkTypes", "LinuxSystem", "Netlink", systemPackage]),
        tests(
            of: "Forwarding",
            [
                "Wire", "Services", "Policy", "NetworkModel", "NetworkTypes", "LinuxSystem", "CLinux", systemPackage,
                logging,
            ]),
        tests(
            of: "PortForwarding",
            ["Netlink", "CLinux", "NetworkModel", "NetworkTypes", "LinuxSystem", systemPackage, logging]),
        tests(
            of: "Control", ["JSON", "LinuxSystem", "NetworkModel", "NetworkTypes", systemPackage, logging]),
        tests(of: "ControlClient", ["Control", "JSON", "LinuxSystem", "NetworkTypes", systemPackage, logging]),
        tests(of: "NativeSockets", ["CLinux", "JSON", "LinuxSystem", "NetworkModel", "NetworkTypes", systemPackage]),
        tests(of: "Sandbox", ["CLinux", "LinuxSystem", systemPackage]),
        tests(
            of: "Engine",
            [
                "Planning", "HostMonitor", "NamespaceControl", "Forwarding", "PortForwarding", "Control",
                "ControlClient", "JSON", "Options", "Policy", "Wire", "Netlink", "LinuxSystem", "NetworkModel",
                "NetworkTypes", systemPackage, logging,
            ]),
        .target(
            name: "NetlinkTestSupport",
            dependencies: ["Netlink", "LinuxSystem", "NetworkModel", "NetworkTypes", systemPackage],
            path: "Tests/NetlinkTestSupport", swiftSettings: commonSettings),
        .executableTarget(
            name: "netlink-recorder",
            dependencies: [
                "NetlinkTestSupport", "HostMonitor", "NamespaceControl", "Planning", "Netlink", "LinuxSystem",
                "NetworkModel", "NetworkTypes", systemPackage,
            ],
            path: "Tests/NetlinkRecorder", swiftSettings: commonSettings),
        .testTarget(
            name: "ArchitectureTests", dependencies: ["TestSupport", subprocess, systemPackage],
            swiftSettings: commonSettings),

        // Tests in network namespaces of their own: real programs, real kernel.
        .target(name: "CLab", path: "Integration/CLab"),
        .testTarget(
            name: "Lab", dependencies: ["CLab", subprocess, systemPackage], path: "Integration/Lab",
            exclude: ["Programs"],
            swiftSettings: commonSettings),
        .testTarget(
            name: "Scenarios", dependencies: ["Lab"], path: "Integration/Scenarios", swiftSettings: commonSettings),
    ]
)
