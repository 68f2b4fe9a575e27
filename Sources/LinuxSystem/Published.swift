// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// The newest of the values that one thread publishes and others read.
///
/// Both sides copy a value under a lock and do nothing else there: nobody waits for more than those few instructions,
/// and a value that nobody has read yet is replaced, not queued.
public final class Published<Value: Sendable>: Sendable {
    private let newest: Mutex<Value>

    /// Publishes a first value.
    public init(_ value: Value) {
        newest = Mutex(value)
    }

    /// The newest value.
    public var value: Value { newest.withLock { $0 } }

    /// Puts a value in place of the one before.
    public func publish(_ value: Value) {
        newest.withLock { $0 = value }
    }
}
