// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes

/// Where addresses of the namespace come from: one value of `-a`.
public enum AddressSource: Hashable, Sendable, CustomStringConvertible {
    /// `ADDR[/LEN]`: this address, always; the length is nil unless given.
    case explicit(IPAddress, length: Int?)
    /// `auto`: the addresses of the family's template interface, followed.
    case template
    /// `IFNAME`, `%NAME`: the addresses of this interface, followed, whatever the template is.
    case interface(String)
    /// `all`: every usable address of the host, followed.
    case all
    /// `ll`: a link-local address of ours, beside the rest.
    case linkLocal

    /// The source as the option takes it.
    public var description: String {
        switch self {
        case .explicit(let address, let length): "\(address)" + (length.map { "/\($0)" } ?? "")
        case .template: "auto"
        case .interface(let name): "%\(name)"
        case .all: "all"
        case .linkLocal: "ll"
        }
    }

    /// Whether its addresses are the host's and follow their changes.
    public var followsHost: Bool {
        switch self {
        case .template, .interface, .all: true
        case .explicit, .linkLocal: false
        }
    }
}

/// Why the namespace has an address.
public enum AddressOrigin: Hashable, Sendable, CustomStringConvertible {
    /// The user gave it with `-a`.
    case explicit
    /// The template interface has it.
    case template
    /// The interface named with `-a` has it.
    case interface(String)
    /// Some interface of the host has it, and `-a all` was given.
    case all
    /// It is one of tapas's own addresses for links without a network.
    case linkLocal
    /// No source gave it: the namespace was seen to use it.
    case observed

    /// The word for people and for `status`.
    public var description: String {
        switch self {
        case .explicit: "explicit"
        case .template: "template"
        case .interface(let name): "interface \(name)"
        case .all: "all"
        case .linkLocal: "link-local"
        case .observed: "observed"
        }
    }
}
