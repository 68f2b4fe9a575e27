// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// `--mode`: how the namespace's configuration depends on the host's network (docs/modes.md).
public enum NetworkMode: String, Hashable, Sendable, CaseIterable, CustomStringConvertible {
    /// Each family is a copy of a host interface if there is a usable one, else local.
    case auto
    /// Always a copy of one given host interface.
    case transparent
    /// A configuration of its own that never changes; the host's addresses are added to it.
    case opaque

    /// The word of the option.
    public var description: String { rawValue }
}
