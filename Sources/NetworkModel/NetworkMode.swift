// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// `--mode`: what the namespace is to the host's network (docs/modes.md).
public enum NetworkMode: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    /// Each family is a copy of a host interface as long as there is one, else local.
    case auto
    /// One host interface, mirrored as it is, and never another.
    case transparent
    /// A configuration of its own that never changes; the host's addresses stand beside it.
    case opaque

    /// The word of the option.
    public var description: String { rawValue }
}
