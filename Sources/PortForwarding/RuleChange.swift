// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// One replacement of all rules, from the comparison to the commit or the rollback.
//
// A socket of the old rules can block a different new one (for example an address blocks the wildcard of the same
// port). Only such a socket is closed before the new one is opened. This is the last step of the change, and the socket
// is opened again if the change fails.
//
// A change is planned first (`layOut`): which sockets of the old rules are taken over, and which descriptors of the
// namespace are needed (`requests`). Once these have been made, the change is carried out without waiting (`prepare`,
// then `commit` or `undo`). Between the two, the rules in force may have opened and closed ports, so the change is
// planned again after waiting.
//
// syscalls: setup(main): clock_nanosleep close ioctl openat prlimit64 read socket
// syscalls: running(ports): clock_nanosleep close ioctl openat prlimit64 read socket

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// A change of the rules that has not been decided yet.
struct RuleChange {
    /// A port of a rule at one of its places.
    private struct PortPlace {
        var rule: Int
        var place: Int
        var port: UInt16
    }

    private let owner: ForwardedPorts
    private var fresh: [ListeningRule] = []
    /// Listeners of the old rules that the new ones take over, with their place there.
    private var kept: [Int: PortPlace] = [:]
    /// Listeners that this change has opened.
    private var opened: [Int] = []
    /// Port places that can be opened only after an old socket is closed.
    private var postponed: [PortPlace] = []
    /// Port places of the old rules whose sockets were closed for those.
    private var cleared: [PortPlace] = []
    /// Until when the change waits for ports that another process has.
    private var patience: MonotonicTime
    /// The length of that in milliseconds, for messages.
    private let patienceLength: Int64
    /// When it is told that a port is waited for; nil once it is.
    private var timeToTell: MonotonicTime?
    /// What the host does not have, and the new rules that wait for it: a line for each lack.
    private var waits: [(lack: String, rules: [PortForward], prospect: String)] = []
    /// Optional ports that could not be opened.
    private(set) var skipped = SkippedPorts()
    /// The descriptors that the namespace has made for this change.
    private var supply = NamespaceSupply()

    /// Makes a change that does nothing yet.
    ///
    /// - Parameters:
    ///   - owner: the object whose rules are changed.
    ///   - patience: how long to wait for a port that a predecessor still has, in milliseconds.
    init(owner: ForwardedPorts, patience: Int64) {
        self.owner = owner
        patienceLength = patience
        self.patience = MonotonicTime.now.advanced(milliseconds: patience)
        timeToTell = MonotonicTime.now.advanced(milliseconds: owner.options.silentPatience)
    }

    // MARK: Preparing

    /// Plans the change, and changes nothing.
    ///
    /// - Throws: If the process may not have as many descriptors, or if a new rule needs what the host does not have and
    ///   nobody would tell when it comes.
    mutating func layOut(_ rules: [PortForward]) throws(PortForwardingError) {
        fresh = rules.map { ListeningRule(rule: $0, places: owner.abilities.places(of: $0)) }
        for index in fresh.indices { findDevice(index) }
        for index in fresh.indices { takeOver(index) }
        try checkPresence()
        try checkDescriptors()
    }

    /// The descriptors of the namespace that the planned rules need.
    var requests: [NamespaceRequest] {
        var requests = owner.scanRequests(for: fresh)
        for index in fresh.indices where fresh[index].rule.direction == .outbound {
            let rule = fresh[index]
            guard rule.rule.policy != .scanned else { continue }
            for place in rule.places.indices {
                let request = rule.places[place].request(rule.rule.transport)
                for port in rule.ports where rule.listener(place, port) == nil {
                    requests.append(request)
                    // One more for the second attempt, or for the rollback.
                    guard oldSocketBlocks(PortPlace(rule: index, place: place, port: port)) else { continue }
                    requests += [request, request]
                }
            }
        }
        return requests
    }

    /// Opens everything that is new.
    ///
    /// - Parameter supply: the descriptors that the namespace has made for ``requests``.
    /// - Throws: The first explicit port that cannot be opened; `EAGAIN` if more descriptors are needed than were
    ///   requested.
    mutating func prepare(_ supply: NamespaceSupply) throws(PortForwardingError) {
        self.supply = supply
        for index in fresh.indices where fresh[index].rule.policy != .scanned && !fresh[index].waitsForDevice {
            try open(index)
        }
        guard owner.openScanSources(for: fresh, &self.supply) || owner.mayWait else { throw .noScan }
        try openPostponed()
    }

    /// Finds the sockets of the old rules that a new rule takes over.
    private mutating func takeOver(_ index: Int) {
        let mine = fresh[index]
        for old in owner.rules where mine.shares(with: old) && mine.deviceIndex == old.deviceIndex {
            let range = mine.ports.clamped(to: old.ports)
            for (place, wanted) in mine.places.enumerated() {
                guard let oldPlace = old.places.firstIndex(of: wanted) else { continue }
                for port in old.openPorts where range.contains(port) {
                    guard let listener = old.listener(oldPlace, port) else { continue }
                    fresh[index].add(listener, place, port)
                    kept[listener] = PortPlace(rule: index, place: place, port: port)
                }
            }
            if mine.rule == old.rule { fresh[index].skipped = old.skipped }
        }
    }

    private mutating func findDevice(_ index: Int) {
        guard fresh[index].rule.direction == .inbound, let device = fresh[index].rule.interface else { return }
        fresh[index].deviceIndex = unsafe if_nametoindex(device)
        fresh[index].waitsForDevice = fresh[index].deviceIndex == 0
    }

    /// Finds new rules for an address or an interface that the host does not have; refuses them if they would wait for
    /// ever.
    private mutating func checkPresence() throws(PortForwardingError) {
        let known = Set(owner.rules.map(\.rule))
        for rule in fresh where rule.rule.direction == .inbound && !known.contains(rule.rule) {
            if rule.waitsForDevice, let device = rule.rule.interface {
                guard device != owner.options.mirroredInterface else { continue }
                try wait(
                    rule, Errno(rawValue: ENODEV), "there is no interface '\(device)' at present",
                    "will be forwarded as soon as there is")
            } else if let address = rule.rule.address, !owner.options.expectsAbsentAddresses, rule.places[0].isAbsent {
                try wait(
                    rule, .addressNotAvailable, "the host does not have \(address) at present",
                    "will be forwarded as soon as it does")
            }
        }
    }

    /// Notes what a rule waits for.
    ///
    /// - Throws: If nobody would tell when it comes.
    private mutating func wait(
        _ rule: ListeningRule, _ errno: Errno, _ lack: String, _ prospect: String
    ) throws(PortForwardingError) {
        guard owner.options.followsHost else {
            let expecting = errno == .addressNotAvailable ? "; --freebind listens on it all the same" : ""
            throw .cannotListen(
                rule.name(0, rule.ports.lowerBound), SystemCallError("bind", "", errno),
                remark: "\(lack), and --no-monitor does not wait for it\(expecting)")
        }
        if let index = waits.firstIndex(where: { $0.lack == lack }) {
            waits[index].rules.append(rule.rule)
        } else {
            waits.append((lack, [rule.rule], prospect))
        }
    }

    /// Refuses rules that need more descriptors than the process may have, before anything is bound.
    private func checkDescriptors() throws(PortForwardingError) {
        var needed = 0
        for rule in fresh where rule.rule.policy != .scanned {
            needed += rule.ports.count * rule.places.count - rule.open.count
        }
        var limit = rlimit()
        guard needed > 0, unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        // The descriptors that are open now, and a few for flows.
        let reserve = 64 + owner.listeners.count
        let allowed = Int(clamping: limit.rlim_cur)
        let available = max(allowed - reserve, 0)
        if needed > available { throw .tooFewDescriptors(needed: needed, available: available, limit: allowed) }
    }

    /// Opens the ports of a rule that are not open yet.
    private mutating func open(_ index: Int) throws(PortForwardingError) {
        let rule = fresh[index]
        var failures = 0
        var lastError: Errno?
        var taken = PortSet()
        for place in rule.places.indices {
            let ports = rule.ports.filter { rule.listener(place, $0) == nil }
            owner.listeners.reserve(ports.count)
            var sockets = try self.sockets(for: rule, place, count: ports.count).makeIterator()
            for (position, port) in ports.enumerated() {
                guard let number = sockets.next() else { break }
                let portPlace = PortPlace(rule: index, place: place, port: port)
                let error: SystemCallError
                do throws(SystemCallError) {
                    try listen(portPlace, number)
                    continue
                } catch let refusal {
                    error = refusal
                }
                if error.errno == .addressInUse, oldSocketBlocks(portPlace) {
                    postponed.append(portPlace)
                    continue
                }
                if rule.rule.policy == .bestEffort {
                    failures += 1
                    lastError = error.errno
                    skipped.add(rule.rule, port, error.errno)
                    if error.errno == .addressInUse { taken.insert(port) }
                    continue
                }
                do {
                    try retry(portPlace, after: error)
                } catch {
                    // The sockets that were made with this one.
                    for _ in (position + 1)..<ports.count { if let rest = sockets.next() { HostSocket.close(rest) } }
                    throw error
                }
            }
        }
        fresh[index].pending = taken.ports
        if let lastError, failures == rule.ports.count * rule.places.count {
            throw .nothingToListenOn(rule.rule, lastError)
        }
    }

    /// Makes all sockets for a rule's place; those of the namespace come from the supply.
    private mutating func sockets(
        for rule: ListeningRule, _ place: Int, count: Int
    ) throws(PortForwardingError) -> [CInt] {
        guard count > 0 else { return [] }
        let request = rule.places[place].request(rule.rule.transport)
        let made: NamespaceAnswers
        if rule.rule.direction == .inbound {
            made = NamespaceRequest.answers(to: .init(repeating: request, count: count))
        } else {
            made = supply.take(.init(repeating: request, count: count))
        }
        var numbers: [CInt] = []
        numbers.reserveCapacity(count)
        var failure: Errno?
        for result in made {
            switch result {
            case .success(let descriptor): numbers.append(descriptor.rawValue)
            case .failure(let error): failure = error
            }
        }
        guard let failure else { return numbers }
        for number in numbers { HostSocket.close(number) }
        guard rule.rule.direction == .inbound else { throw .noNamespaceSockets(failure) }
        throw .cannotListen(
            rule.name(place, rule.ports.lowerBound), SystemCallError("socket", "", failure), remark: nil)
    }

    /// Makes a socket listen for a portPlace; the socket is closed if that fails.
    ///
    /// - Throws: The error of setsockopt(2), bind(2), listen(2) or epoll_ctl(2).
    private mutating func listen(_ portPlace: PortPlace, _ number: CInt) throws(SystemCallError) {
        let listener = try owner.listen(
            number, fresh[portPlace.rule], portPlace.rule, portPlace.place, portPlace.port)
        fresh[portPlace.rule].add(listener, portPlace.place, portPlace.port)
        opened.append(listener)
    }

    /// As ``listen(_:_:)`` with a new socket.
    private mutating func listenAnew(_ portPlace: PortPlace) throws(SystemCallError) {
        try listen(portPlace, try socket(for: fresh[portPlace.rule], portPlace.place))
    }

    /// A new socket on the side that listens; in the namespace, one that was made for this change.
    ///
    /// - Throws: The error of socket(2); EAGAIN if there is no socket of the namespace now.
    private mutating func socket(for rule: ListeningRule, _ place: Int) throws(SystemCallError) -> CInt {
        guard rule.rule.direction == .outbound, let made = supply.take(rule.places[place].request(rule.rule.transport))
        else {
            if let number = try owner.socket(for: rule, place) { return number }
            throw SystemCallError("socket", "", .resourceTemporarilyUnavailable)
        }
        do throws(Errno) {
            return try made.get().rawValue
        } catch {
            throw SystemCallError("socket", "", error)
        }
    }

    // MARK: A port that another process has

    /// Retries while a predecessor may still have the port; then fails.
    private mutating func retry(_ portPlace: PortPlace, after first: SystemCallError) throws(PortForwardingError) {
        let rule = fresh[portPlace.rule]
        var error = first
        var holder: PortHolder?
        var hasWaited = false
        if error.errno == .addressInUse {
            holder = self.holder(of: portPlace)
            while MonotonicTime.now < patience, holder?.mayBeSibling ?? true {
                hasWaited = true
                tellOfWaiting(for: portPlace, holder)
                var pause = timespec(tv_sec: 0, tv_nsec: 5_000_000)
                unsafe nanosleep(&pause, nil)
                do throws(SystemCallError) {
                    return try listenAnew(portPlace)
                } catch let refusal {
                    error = refusal
                }
                if error.errno != .addressInUse { break }
            }
        }
        var remarks = [remark(error, portPlace, holder)].compactMap(\.self)
        if hasWaited, error.errno == .addressInUse { remarks.append("it did not become free within \(patienceText)") }
        throw .cannotListen(
            rule.name(portPlace.place, portPlace.port), error,
            remark: remarks.isEmpty ? nil : remarks.joined(separator: "; "))
    }

    /// Tells once that the start takes longer than usual, and why.
    private mutating func tellOfWaiting(for portPlace: PortPlace, _ holder: PortHolder?) {
        guard let time = timeToTell, MonotonicTime.now >= time else { return }
        timeToTell = nil
        let name = fresh[portPlace.rule].name(portPlace.place, portPlace.port)
        let owner = holder?.description.map { " (\($0))" } ?? ""
        self.owner.options.logger.warning(
            "\(name) still belongs to another process\(owner): waiting for it, \(patienceText) in all")
    }

    /// `2 s`, `700 ms`.
    private var patienceText: String {
        patienceLength.isMultiple(of: 1000) ? "\(patienceLength / 1000) s" : "\(patienceLength) ms"
    }

    private func holder(of portPlace: PortPlace) -> PortHolder? {
        let rule = fresh[portPlace.rule].rule
        guard rule.direction == .inbound else { return nil }
        return owner.options.holders[rule.transport, portPlace.port]
    }

    private func remark(_ error: SystemCallError, _ portPlace: PortPlace, _ holder: PortHolder?) -> String? {
        switch error.errno {
        case .addressInUse:
            return holder?.description.map { "it belongs to \($0)" }
        case .permissionDenied:
            let limit = SmallFile.line("/proc/sys/net/ipv4/ip_unprivileged_port_start").map { " (now \($0))" } ?? ""
            return """
                ports below net.ipv4.ip_unprivileged_port_start\(limit) need CAP_NET_BIND_SERVICE; lower it, or forward \
                a higher port
                """
        default:
            return nil
        }
    }

    // MARK: Old sockets in the way

    /// Whether a socket of the old rules that is going to be closed has a portPlace's port.
    private func oldSocketBlocks(_ portPlace: PortPlace) -> Bool {
        owner.rules.indices.contains { !blocking(portPlace, $0).isEmpty }
    }

    /// The places where a rule of the old rules listens on a portPlace's port for the last time.
    private func blocking(_ portPlace: PortPlace, _ index: Int) -> [Int] {
        let old = owner.rules[index]
        guard old.rule.direction == fresh[portPlace.rule].rule.direction,
            old.rule.transport == fresh[portPlace.rule].rule.transport, old.ports.contains(portPlace.port)
        else { return [] }
        return old.places.indices.filter { place in
            old.listener(place, portPlace.port).map { kept[$0] == nil } ?? false
        }
    }

    private mutating func openPostponed() throws(PortForwardingError) {
        for portPlace in postponed {
            for index in owner.rules.indices {
                for place in blocking(portPlace, index) {
                    guard let listener = owner.rules[index].listener(place, portPlace.port) else { continue }
                    owner.takeRest(of: listener)
                    _ = owner.rules[index].remove(place, portPlace.port)
                    owner.listeners.close(listener)
                    cleared.append(PortPlace(rule: index, place: place, port: portPlace.port))
                }
            }
            let error: SystemCallError
            do throws(SystemCallError) {
                try listenAnew(portPlace)
                continue
            } catch let refusal {
                error = refusal
            }
            let rule = fresh[portPlace.rule]
            guard rule.rule.policy == .bestEffort else {
                try retry(portPlace, after: error)
                continue
            }
            skipped.add(rule.rule, portPlace.port, error.errno)
            if error.errno == .addressInUse { fresh[portPlace.rule].pending.append(portPlace.port) }
        }
        for index in Set(postponed.map(\.rule)) where fresh[index].open.isEmpty {
            throw .nothingToListenOn(fresh[index].rule, .addressInUse)
        }
    }

    // MARK: Ending

    /// Closes everything that this change has opened, and restores the old rules.
    mutating func undo() {
        for listener in opened { owner.listeners.close(listener) }
        for portPlace in cleared {
            // The port was ours a moment ago; if another process has taken it, it is tried again like an optional port.
            let rule = owner.rules[portPlace.rule]
            do throws(SystemCallError) {
                let number = try socket(for: rule, portPlace.place)
                let listener = try owner.listen(number, rule, portPlace.rule, portPlace.place, portPlace.port)
                owner.rules[portPlace.rule].add(listener, portPlace.place, portPlace.port)
            } catch {
                owner.options.logger.error("\(error)")
                owner.rules[portPlace.rule].pending.append(portPlace.port)
            }
        }
        supply.close()
        owner.scheduleRetry()
    }

    /// Closes the sockets that the new rules do not use, and puts the new rules in force.
    mutating func commit() {
        let new = Set(opened)
        let old = owner.listeners.indices.filter { !new.contains($0) }
        // These connections belong to the old rules, so they are accepted before the rules are replaced.
        for index in old where kept[index] == nil { owner.takeRest(of: index) }
        for index in old {
            if let portPlace = kept[index] {
                owner.listeners[index].rule = portPlace.rule
                owner.listeners[index].place = portPlace.place
            } else {
                owner.listeners.close(index)
            }
        }
        supply.close()
        for (lack, rules, prospect) in waits {
            let more = rules.count > 1 ? ", and \(rules.count - 1) more," : ""
            owner.options.logger.warning("\(lack): \(rules[0])\(more) \(prospect)")
        }
        owner.rules = fresh
    }
}
