// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkTypes
public import Policy
internal import Synchronization

/// A line of the flow log before the host's interface is known.
public struct FlowEvent: Sendable {
    /// The line; its interface is nil.
    public var record: Policy.FlowRecord
    /// The address of the host's socket; nil if there is none.
    public var local: IPAddress?

    /// Makes an event.
    public init(_ record: Policy.FlowRecord, local: IPAddress? = nil) {
        self.record = record
        self.local = local
    }
}

/// The events of flows on their way from the threads that serve flows to the one that writes: a bounded queue.
///
/// Adding never waits. When the reader is too slow, events are dropped and counted.
public final class FlowEventQueue: Sendable {
    private struct State {
        var events: [FlowEvent] = []
        var dropped: UInt64 = 0
    }

    /// The greatest number of waiting events.
    public static let capacity = 16384

    private let state = Mutex(State())
    private let wake: @Sendable () -> Void

    /// Makes an empty queue.
    ///
    /// - Parameter wake: called on the adding thread when the queue is no longer empty; it must not wait.
    public init(wake: @escaping @Sendable () -> Void) {
        self.wake = wake
    }

    /// Adds an event, or counts it as dropped.
    public func add(_ event: FlowEvent) {
        let isFirst = state.withLock { state in
            guard state.events.count < Self.capacity else {
                state.dropped &+= 1
                return false
            }
            state.events.append(event)
            return state.events.count == 1
        }
        if isFirst { wake() }
    }

    /// Takes all events.
    ///
    /// - Returns: the events, and how many were dropped since the last call.
    public func take() -> (events: [FlowEvent], dropped: UInt64) {
        state.withLock { state in
            defer { state = State() }
            return (state.events, state.dropped)
        }
    }
}
