// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The newest of the values that one thread publishes and others read.
///
/// Both sides only copy a value under a lock, so neither waits for more than a few instructions. A value that has not
/// been read yet is replaced, not queued.
public final class Published<Value: Sendable>: Sendable {
    private let newest: Mutex<Value>

    /// Publishes a first value.
    public init(_ value: Value) {
        newest = Mutex(value)
    }

    /// The newest value.
    public var value: Value { newest.withLock { $0 } }

    /// Replaces the published value.
    public func publish(_ value: Value) {
        newest.withLock { $0 = value }
    }
}
