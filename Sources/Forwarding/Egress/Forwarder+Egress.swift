// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The rules on what may leave, as the control plane sees them.

internal import LinuxSystem
public import NetworkTypes
public import Policy

/// The state of the rules on what may leave.
public struct EgressState: Sendable {
    /// A name that the relay has answered with an address.
    public struct Name: Hashable, Sendable {
        /// The name.
        public var name: DomainName
        /// The address.
        public var address: IPAddress
        /// How long the entry is valid, in nanoseconds; 0 if only flows keep it.
        public var remaining: UInt64
        /// The number of open flows that it has allowed.
        public var uses: Int
    }

    /// How often each rule has decided.
    public var hits: [UInt64]
    /// How often the default has decided.
    public var defaultHits: UInt64
    /// The known names, sorted.
    public var names: [Name]
    /// The number of names that were left out or forgotten because there was no room.
    public var namesCrowdedOut: UInt64
}

extension Forwarder {
    /// Sets the rules for flows that open from now on, and ends those that the rules deny.
    ///
    /// - Returns: the number of flows that were ended.
    @discardableResult
    public func publish(egress settings: EgressSettings) -> Int {
        withPath { path in
            path.now = .now
            return path.adopt(settings)
        }
    }

    /// Records flows from now on.
    public func record(in events: FlowEventQueue) {
        withPath { path in
            path.options.flowEvents = events
            if let gate = path.gate {
                if gate.events == nil { gate.events = events }
            } else {
                path.gate = EgressGate(.allowingAll, rules: path.translator.rules, events: events)
            }
        }
    }

    /// Records the end of all flows: the program ends.
    public func endRecord() {
        withPath { path in
            path.now = .now
            path.ending = .ended
            defer { path.ending = nil }
            for index in (path.gate?.notes.keys).map({ Array($0) }) ?? [] { path.endAtGate(index) }
        }
    }

    /// The state of the rules; nil if there are none.
    public var egressState: EgressState? {
        withPath { path in
            guard let gate = path.gate else { return nil }
            let now = UInt64(clamping: path.now.nanoseconds)
            let names = gate.names.all.map { address, entry in
                EgressState.Name(
                    name: entry.name, address: address, remaining: entry.expiry > now ? entry.expiry - now : 0,
                    uses: entry.uses)
            }
            return EgressState(
                hits: Array(gate.hits.dropLast()), defaultHits: gate.hits.last ?? 0,
                names: names.sorted { ($0.name, "\($0.address)") < ($1.name, "\($1.address)") },
                namesCrowdedOut: gate.names.crowdedOut)
        }
    }

    /// Decides as on a flow that opens now, without effect; nil if there are no rules.
    public func decide(_ opening: EgressPolicy.Opening) -> EgressPolicy.Decision? {
        withPath { path in
            guard let gate = path.gate else { return nil }
            path.now = .now
            return gate.decide(opening, now: path.now.nanoseconds)
        }
    }
}
