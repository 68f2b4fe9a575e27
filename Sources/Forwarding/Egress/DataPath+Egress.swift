// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Where the data path asks the gate (EgressGate.swift), and what the namespace sees of a denial.

internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Policy
internal import Services
internal import Wire

/// Why a flow has ended, for the record of flows.
enum FlowEnding: String {
    /// Both sides have ended.
    case finished
    /// A reset from the namespace, or another end without ceremony.
    case reset
    /// Nothing was sent for the flow's time-out.
    case idle
    /// The host's socket has failed.
    case failed
    /// There was no room for it.
    case evicted
    /// The host no longer has the address of its socket.
    case addressGone = "address-gone"
    /// Ended by `tapasctl flows kill`.
    case killed
    /// The program has ended.
    case ended
    /// The rules have changed, or its destination has become the host's.
    case denied
}

extension DataPath {
    // MARK: Openings

    /// Asks whether a flow may open; a flow that may not is refused.
    @inline(never)
    mutating func passesGate(_ key: FlowKey, _ summary: FrameSummary, frame: Span<UInt8>) -> Bool {
        guard let gate else { return true }
        let isForRelay = isForRelay(key)
        // The relay's queries are decided by name. Those over UDP to port 53 never come here.
        if isForRelay { gate.beginQuery() }
        var limit: EgressGate.Limit?
        if isForRelay ? gate.allowsAllQueries : gate.admits(key, now: now.nanoseconds) {
            limit = gate.exceededLimit(count: table.count, now: now.nanoseconds)
            if limit == nil { return true }
        }
        counters.drop(limit == nil ? FlowDropReason.denied : .limited)
        record(
            .deny, key, gate.latest, reason: limit?.rawValue ?? (isForRelay ? Policy.FlowRecord.streamOfQueries : nil))
        // What opens too fast is dropped, so that the namespace's kernel tries again.
        if gate.settings.deniesSilently || limit == .rate { return false }
        if summary.kind == .tcp {
            refuseSegment(summary)
        } else if ICMPError.mayAnswer(summary) {
            let message = ICMPError.administrativelyProhibited(summary.family)
            let mac = gatewayMAC
            let source = errorSource(summary.family, instead: summary.destination)
            sendFrame { span, _ in
                message.writeFrame(into: &span, about: frame, summary: summary, from: source, sourceMAC: mac)
            }
        }
        return false
    }

    /// Whether a flow goes to the address that stands for the host's resolvers.
    private func isForRelay(_ key: FlowKey) -> Bool {
        key.remoteAddress == translator.rules.families[key.family].dnsForward
            && (key.remotePort == 53 || key.remotePort == 853) && (key.transport == .tcp || key.transport == .udp)
    }

    /// Notes the decision that a new flow was opened by.
    @inline(__always)
    mutating func beginAtGate(_ index: Int) {
        if let gate { gate.begin(index, table[index].key) }
    }

    /// The host's socket of a new flow exists: records the opening, unless the destination is the host's own address,
    /// which was not published yet and is denied.
    ///
    /// - Returns: false if the flow was ended.
    @inline(__always)
    mutating func openedAtGate(_ index: Int) -> Bool {
        gate == nil || isOpenedAtGate(index)
    }

    @inline(never)
    private mutating func isOpenedAtGate(_ index: Int) -> Bool {
        guard let gate else { return true }
        let key = table[index].key
        let destination = key.remoteAddress.unmapped
        if table[index].local == destination.asIPv6, !gate.surroundings.hostAddresses.contains(destination),
            !isForRelay(key)
        {
            gate.note(hostAddress: destination)
            if !gate.admits(key, now: now.nanoseconds) {
                counters.drop(FlowDropReason.denied)
                record(.deny, key, gate.latest)
                _ = gate.end(index, key)
                if gate.settings.deniesSilently || key.transport != .tcp {
                    abortFlow(index)
                } else {
                    carryOut(table[index].abandoned(), for: index)
                }
                return false
            }
        }
        recordOpening(index)
        return true
    }

    // MARK: The record

    private mutating func recordOpening(_ index: Int) {
        guard let gate, gate.events != nil, let note = gate.notes[index], !note.isRecorded else { return }
        gate.notes[index]?.isRecorded = true
        record(.open, table[index].key, note, local: table[index].local)
    }

    /// A flow ends: its names are released, and the end is recorded.
    @inline(never)
    mutating func endAtGate(_ index: Int) {
        guard let gate else { return }
        if gate.notes[index] != nil { recordOpening(index) }
        let flow = table[index]
        guard let note = gate.end(index, flow.key), gate.events != nil else { return }
        var traffic = Policy.FlowRecord.Traffic()
        traffic.bytesOut = flow.bytesFromGuest
        traffic.bytesIn = flow.bytesToGuest
        traffic.packetsOut = flow.framesFromGuest
        traffic.packetsIn = flow.framesToGuest
        traffic.duration = UInt64(clamping: now.nanoseconds - flow.opened)
        let isFinished = flow.flags.isSuperset(of: [.shutDown, .finAcknowledged])
        let reason = ending ?? (flow.key.transport != .tcp ? .idle : isFinished ? .finished : .reset)
        record(.close, flow.key, note, local: flow.local, traffic: traffic, reason: reason.rawValue)
    }

    private func record(
        _ event: Policy.FlowRecord.Event, _ key: FlowKey, _ note: EgressGate.Note, local: IPv6Address = .unspecified,
        traffic: Policy.FlowRecord.Traffic? = nil, reason: String? = nil
    ) {
        guard let events = gate?.events else { return }
        var record = Policy.FlowRecord(
            event, time: UInt64(clamping: MonotonicTime.wallNanoseconds), verdict: event == .deny ? .deny : .allow,
            rule: note.rule, transport: PolicyTransport(key.transport),
            guest: .init(IPAddress(key.family, key.guest), key.guestPort),
            remote: .init(key.remoteAddress, key.remotePort))
        record.name = note.name?.text
        record.traffic = traffic
        record.reason = reason
        events.add(FlowEvent(record, local: local.isUnspecified ? nil : IPAddress(unmapping: local)))
    }

    // MARK: Changes

    /// Adopts new rules, and ends the flows that they deny.
    ///
    /// - Returns: the number of flows that were ended.
    mutating func adopt(_ settings: EgressSettings) -> Int {
        if let gate {
            gate.adopt(settings)
        } else {
            gate = EgressGate(settings, rules: translator.rules, events: options.flowEvents)
        }
        return endDeniedFlows { _ in true }
    }

    /// Adopts the host's present addresses, and ends the flows that may no longer go where they go.
    mutating func adoptSurroundings() {
        guard let gate else { return }
        let changed = gate.adopt(translator.rules)
        if !changed.isEmpty { _ = endDeniedFlows { changed.contains($0.remoteAddress.unmapped) } }
    }

    /// Asks the gate again for some of the flows, and ends those that it denies.
    private mutating func endDeniedFlows(among isConcerned: (FlowKey) -> Bool) -> Int {
        guard let gate else { return 0 }
        let time = now.nanoseconds
        ending = .denied
        defer { ending = nil }
        return resetFlows { flow in
            guard !flow.flags.contains(.inbound), isConcerned(flow.key) else { return false }
            // Queries over UDP are decided one by one; a stream of them is not read.
            if flow.flags.contains(.dns) { return flow.key.transport == .tcp && !gate.allowsAllQueries }
            return gate.decide(flow.key, now: time).verdict == .deny
        }
    }

    // MARK: Queries

    /// Answers a query that may not be sent on.
    ///
    /// - Returns: whether it was answered, and goes nowhere.
    mutating func refusesQuery(_ summary: FrameSummary, frame: UnsafeMutableRawPointer, count: Int) -> Bool {
        guard let gate else { return false }
        let end = summary.payloadOffset + summary.payloadLength
        let message = unsafe Self.bytes(frame, count).extracting(summary.payloadOffset..<end)
        guard let (code, name, rule) = gate.refusal(of: message) else { return false }
        dns.statistics.queries &+= 1
        dns.statistics.refusals &+= 1
        let key = FlowKey(
            family: summary.family, guest: summary.source, remote: summary.destination,
            guestPort: summary.sourcePort, remotePort: summary.destinationPort, transport: .udp)
        recordRefusal(key, name: name?.description, rule: rule, reason: code == .formatError ? "malformed" : "name")
        sendFrame { span, rules in
            DNSFailureResponder.reply(
                to: unsafe Self.bytes(frame, count), summary: summary, rules: rules, code: code, into: &span)
        }
        return true
    }

    /// Records that a query was refused, or its answer withheld.
    func recordRefusal(_ key: FlowKey, name: String?, rule: PolicyRule?, reason: String) {
        guard let events = gate?.events else { return }
        var record = Policy.FlowRecord(
            .refuse, time: UInt64(clamping: MonotonicTime.wallNanoseconds), verdict: .deny, rule: rule,
            transport: PolicyTransport(key.transport),
            guest: .init(IPAddress(key.family, key.guest), key.guestPort),
            remote: .init(key.remoteAddress, key.remotePort))
        record.name = name
        record.reason = reason
        events.add(FlowEvent(record))
    }

    /// Enters an answer into the table of names.
    ///
    /// - Returns: what is delivered in its place: the answer itself, a refusal, or nil if the next server is to be
    ///   asked.
    mutating func checkedAnswer(_ message: [UInt8], to query: [UInt8], of key: FlowKey) -> [UInt8]? {
        guard let gate else { return message }
        switch gate.learn(message.span, to: query.span, now: now.nanoseconds) {
        case .delivered: return message
        case .unusable: return nil
        case .withheld(let address, let name):
            dns.statistics.refusals &+= 1
            recordRefusal(key, name: name.description, rule: nil, reason: "rebinding to \(address)")
            let code: DNSHeader.ResponseCode = gate.settings.deniesNamesAsAbsent ? .nameError : .refused
            return DNSFailureResponder.failure(for: query.span, code: code)
        }
    }
}
