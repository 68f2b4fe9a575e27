// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The rooms of `Sources` and the rooms that each may import: the table of docs/architecture.md in a form that a test
/// can check.
///
/// Imports point one way. A room may import fewer others than its row allows. Rooms that are visible only through the
/// shared model are listed as well, so that each new edge requires a change of this file.
enum Layering {
    /// Rooms that do no I/O, values in and values out; they import no operating system either.
    static let pure: Set<String> = [
        "NetworkTypes", "NetworkModel", "Wire", "Options", "Planning", "Services", "VirtualMachine", "JSON", "OCIHook",
        "Policy",
    ]

    /// Modules of the operating system and the C library.
    static let system: Set<String> = [
        "Glibc", "Musl", "SystemPackage", "Foundation", "FoundationEssentials", "Dispatch",
    ]

    /// C modules: prototypes and system libraries, with no room below them.
    static let foreign: Set<String> = ["CLinux", "CMnl", "CCap", "CSeccomp"]

    /// The modules that each room may depend on, besides itself and Swift's own modules.
    static let mayKnow: [String: Set<String>] = [
        "CLinux": [], "CMnl": [], "CCap": [], "CSeccomp": [],
        "NetworkTypes": [],
        "NetworkModel": ["NetworkTypes"],
        "Wire": ["NetworkTypes"],
        // getopt_long, through CLinux, is a pure function of its arguments.
        "Options": ["NetworkModel", "NetworkTypes", "Policy", "CLinux"],
        "Planning": ["NetworkModel", "NetworkTypes"],
        "Services": ["Wire", "NetworkModel", "NetworkTypes"],
        "VirtualMachine": [],
        "JSON": [],
        "OCIHook": ["JSON", "Options", "NetworkTypes"],
        "Policy": ["JSON", "Wire", "NetworkTypes"],
        "LinuxSystem": ["CLinux", "NetworkTypes"],
        "Diagnostics": ["LinuxSystem", "CLinux", "NetworkTypes"],
        "Netlink": ["CMnl", "CLinux", "LinuxSystem", "NetworkModel", "NetworkTypes"],
        "HostMonitor": ["Netlink", "CLinux", "LinuxSystem", "NetworkModel", "NetworkTypes"],
        "NamespaceControl": ["Netlink", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes"],
        "Forwarding": [
            "Wire", "Services", "VirtualMachine", "Policy", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes",
        ],
        "PortForwarding": ["Netlink", "Policy", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes"],
        "Sandbox": ["CCap", "CSeccomp", "CLinux", "LinuxSystem"],
        "Control": ["JSON", "NetworkModel", "NetworkTypes", "LinuxSystem", "CLinux"],
        "ControlClient": ["Control", "JSON", "NetworkTypes", "LinuxSystem", "CLinux"],
        "NativeSockets": ["JSON", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes"],
        // The room that the executable calls, which wires the rooms together.
        "Engine": [
            "Options", "Planning", "Netlink", "HostMonitor", "NamespaceControl", "Forwarding", "PortForwarding",
            "Sandbox",
            "Control", "JSON", "Diagnostics", "LinuxSystem", "CLinux", "NetworkModel", "NetworkTypes", "Wire",
            "Services", "Policy", "NativeSockets",
        ],
    ]

    /// The executables, which may import all rooms.
    static let executables: Set<String> = ["tapas", "tapasctl", "tapas-oci-hook"]

    /// Products of other packages, and the rooms that may use them.
    static let libraries: [String: Set<String>] = [
        "Logging": [
            "Diagnostics", "HostMonitor", "NamespaceControl", "Forwarding", "PortForwarding", "Control", "Engine",
        ],
        // LinuxSystem's API contains its Errno and FileDescriptor, so rooms that use LinuxSystem import it.
        "SystemPackage": [
            "LinuxSystem", "Diagnostics", "Netlink", "HostMonitor", "NamespaceControl", "Forwarding", "PortForwarding",
            "Sandbox", "Control", "ControlClient", "Engine", "NativeSockets",
        ],
        "ArgumentParser": [],
    ]
}
