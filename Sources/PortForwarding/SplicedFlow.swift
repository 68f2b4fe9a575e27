// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem
public import NetworkModel
internal import NetworkTypes

/// A spliced connection or UDP client (from loopback to loopback, without the tap) at the moment of the query.
public struct SplicedFlow: Hashable, Sendable {
    /// Its state; the names are those of the flows of the tap.
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
    /// The client that has opened it.
    public var client: Endpoint?
    /// The address and port that the client has connected or sent to.
    public var local: Endpoint?
    /// Its target in the other namespace.
    public var target: Endpoint?
    /// Its state.
    public var state: State
    /// How long it has existed, in nanoseconds.
    public var age: Int64
    /// The time since bytes were last moved, in nanoseconds.
    public var idle: Int64
    /// Bytes from the client that the target's side has accepted.
    public var bytesFromClient: UInt64
    /// Bytes from the target that the client's side has accepted.
    public var bytesToClient: UInt64
}

/// Some of the spliced flows, and the position of the next ones.
public struct SplicedFlowSlice: Sendable {
    /// The flows.
    public var flows: [SplicedFlow]
    /// The start of the next slice; nil if this was the last one.
    public var next: Int?
}

extension ForwardedPorts {
    /// The number of slots that one call examines.
    private static let slotsPerSlice = 256

    /// Returns a slice of the spliced flows; connections first, then UDP clients.
    ///
    /// - Parameter start: 0, then ``SplicedFlowSlice/next`` of the last slice.
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

    /// Ends some of the spliced flows: connections by a reset of both sides.
    ///
    /// - Parameters:
    ///   - start: 0, then the position that the last call returned.
    ///   - condition: selects the flows.
    /// - Returns: the number of flows that were ended, and the position of the next call; nil if this was the last one.
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
