// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkModel
internal import NetworkTypes

/// A connection, or a UDP client, that goes from loopback to loopback and never touches the tap, at the moment it was
/// looked at.
public struct SplicedFlow: Hashable, Sendable {
    /// What it is at; the words are those of the flows of the tap.
    public enum State: String, Hashable, Sendable {
        /// The target's side is connecting.
        case connecting
        /// Data may go both ways.
        case established
        /// One side has ended.
        case closing
        /// Datagrams, none of which has been answered.
        case unanswered
        /// Datagrams both ways.
        case answered
    }

    /// Its protocol.
    public var transport: TransportProtocol
    /// Which side has opened it.
    public var direction: ForwardDirection
    /// Who has opened it.
    public var client: Endpoint?
    /// What the client has connected or written to.
    public var local: Endpoint?
    /// Where it leads in the other namespace.
    public var target: Endpoint?
    /// What it is at.
    public var state: State
    /// How long it has existed, in nanoseconds.
    public var age: Int64
    /// How long nothing was moved, in nanoseconds.
    public var idle: Int64
    /// Bytes that the client's have given and the target's side has taken.
    public var bytesFromClient: UInt64
    /// Bytes the other way.
    public var bytesToClient: UInt64
}

/// Some of the spliced flows, and where to go on.
public struct SplicedFlowSlice: Sendable {
    /// The flows.
    public var flows: [SplicedFlow]
    /// What to ask for next; nil if that was all.
    public var next: Int?
}

extension ForwardedPorts {
    /// Slots that are looked at in one call.
    private static let slotsPerSlice = 256

    /// Some of the flows that never touch the tap; connections first, then UDP clients.
    ///
    /// - Parameter start: where to begin: 0, then what the last slice says.
    /// - Returns: the flows of this slice.
    public func splicedFlows(from start: Int) -> SplicedFlowSlice {
        var slice = SplicedFlowSlice(flows: [], next: nil)
        let now = MonotonicTime.now.nanoseconds
        let slots = nextSlots(start)
        for index in slots {
            let record =
                index < splices.end ? splices.record(index, now: now) : relays.record(index - splices.end, now: now)
            if let record { slice.flows.append(record) }
        }
        slice.next = slots.upperBound < splices.end + relays.end ? slots.upperBound : nil
        return slice
    }

    /// Ends some of the flows that never touch the tap: connections by a reset of both sides.
    ///
    /// - Parameters:
    ///   - start: where to begin: 0, then what the last call has returned.
    ///   - condition: which flows are meant.
    /// - Returns: how many there were among those looked at, and what to ask for next; nil if that was all.
    public func endSplicedFlows(from start: Int, where condition: (SplicedFlow) -> Bool) -> (count: Int, next: Int?) {
        let now = MonotonicTime.now.nanoseconds
        let slots = nextSlots(start)
        let connections = splices.end
        var count = 0
        for index in slots {
            if index < connections {
                guard let record = splices.record(index, now: now), condition(record) else { continue }
                splices.drop(index)
            } else {
                guard let record = relays.record(index - connections, now: now), condition(record) else { continue }
                relays.drop(index - connections)
            }
            count += 1
        }
        return (count, slots.upperBound < connections + relays.end ? slots.upperBound : nil)
    }

    private func nextSlots(_ start: Int) -> Range<Int> {
        let first = min(max(start, 0), splices.end + relays.end)
        return first..<min(first + Self.slotsPerSlice, splices.end + relays.end)
    }
}
