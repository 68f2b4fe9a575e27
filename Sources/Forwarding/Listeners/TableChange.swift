// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// One replacement of the table, from the rules to the commit or the way back.
//
// A socket of the old table can stand in the way of a new one that it is not the same as (a wildcard after one address
// of the same port): only then the old one is closed first, last of all, and opened again if the change fails.
//
// syscalls: getrlimit nanosleep

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// A change of a forwarder's table that has not been decided yet.
struct TableChange {
    /// A port of an entry at one of its places.
    private struct Spot {
        var entry: Int
        var place: Int
        var port: UInt16
    }

    private let forwarder: PortForwarder
    private var fresh: [ForwardingEntry] = []
    /// Listeners of the old table that the new one takes over, with their spot there.
    private var kept: [Int: Spot] = [:]
    /// Listeners that this change has opened.
    private var opened: [Int] = []
    /// Spots that have to wait until an old socket is out of the way.
    private var postponed: [Spot] = []
    /// Spots of the old table whose sockets were closed for those.
    private var cleared: [Spot] = []
    /// How long ports are waited for that somebody else has, all together.
    private var patience: MonotonicTime
    /// Entries whose address the host does not have.
    private var absent: Set<Int> = []
    /// Ports that could not be had and need not.
    private(set) var skipped = SkippedPorts()

    init(forwarder: PortForwarder, patience: Int64) {
        self.forwarder = forwarder
        self.patience = MonotonicTime.now.advanced(milliseconds: patience)
    }

    // MARK: Preparing

    /// Opens everything that is new.
    mutating func prepare(_ rules: [PortForward]) throws(ForwardingError) {
        let places = try Places(forwarder, rules)
        fresh = rules.map { ForwardingEntry(rule: $0, places: places.places(of: $0)) }
        for index in fresh.indices { findDevice(index) }
        for index in fresh.indices { takeOver(index) }
        try checkDescriptors()
        for index in fresh.indices where fresh[index].rule.policy != .scanned && !fresh[index].waitsForDevice {
            try open(index)
        }
        try openPostponed()
    }

    /// Finds the sockets of the old table that serve.
    private mutating func takeOver(_ index: Int) {
        let mine = fresh[index]
        for old in forwarder.entries where mine.shares(with: old) && mine.deviceIndex == old.deviceIndex {
            let range = mine.ports.clamped(to: old.ports)
            for (place, wanted) in mine.places.enumerated() {
                guard let oldPlace = old.places.firstIndex(of: wanted) else { continue }
                for port in old.openPorts where range.contains(port) {
                    guard let listener = old.listener(oldPlace, port) else { continue }
                    fresh[index].add(listener, place, port)
                    kept[listener] = Spot(entry: index, place: place, port: port)
                }
                fresh[index].absenceIsReported = old.absenceIsReported
            }
        }
    }

    private mutating func findDevice(_ index: Int) {
        guard fresh[index].rule.direction == .inbound, let device = fresh[index].rule.interface else { return }
        fresh[index].deviceIndex = unsafe if_nametoindex(device)
        fresh[index].waitsForDevice = fresh[index].deviceIndex == 0
    }

    /// Refuses what the process may not have descriptors for, before anything is bound.
    private func checkDescriptors() throws(ForwardingError) {
        var needed = 0
        for entry in fresh where entry.rule.policy != .scanned {
            needed += entry.ports.count * entry.places.count - entry.open.count
        }
        var limit = rlimit()
        guard needed > 0, unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        // What is open now, and a little for the flows.
        let reserve = 64 + forwarder.listeners.count
        let allowed = Int(clamping: limit.rlim_cur)
        let available = max(allowed - reserve, 0)
        if needed > available { throw .tooFewDescriptors(needed: needed, available: available, limit: allowed) }
    }

    /// Opens the ports of a rule that are not open yet.
    private mutating func open(_ index: Int) throws(ForwardingError) {
        let entry = fresh[index]
        var failures = 0
        var lastError: Errno?
        var taken = PortSet()
        for place in entry.places.indices {
            let ports = entry.ports.filter { entry.listener(place, $0) == nil }
            forwarder.listeners.reserve(ports.count)
            var sockets = try self.sockets(for: entry, place, count: ports.count).makeIterator()
            for (position, port) in ports.enumerated() {
                guard let number = sockets.next() else { break }
                let spot = Spot(entry: index, place: place, port: port)
                guard let error = listen(spot, number) else { continue }
                if entry.rule.policy == .bestEffort {
                    failures += 1
                    lastError = error.errno
                    skipped.add(entry.rule, port, error.errno)
                    if error.errno == .addressInUse { taken.insert(port) }
                    continue
                }
                if error.errno == .addressInUse, oldSocketBlocks(spot) {
                    postponed.append(spot)
                    continue
                }
                do {
                    try retry(spot, after: error)
                } catch {
                    // The sockets that were made with this one.
                    for _ in (position + 1)..<ports.count { if let rest = sockets.next() { HostSocket.close(rest) } }
                    throw error
                }
            }
        }
        fresh[index].pending = taken.ports
        if let lastError, failures == entry.ports.count * entry.places.count {
            throw .nothingToListenOn(entry.rule, lastError)
        }
    }

    /// Makes all sockets for a rule's place: in the namespace with one round trip.
    private func sockets(for entry: ForwardingEntry, _ place: Int, count: Int) throws(ForwardingError) -> [CInt] {
        guard count > 0 else { return [] }
        let request = entry.places[place].request(entry.rule.transport)
        var made: [Result<FileDescriptor, Errno>]
        if entry.rule.direction == .inbound {
            made = []
            made.reserveCapacity(count)
            for _ in 0..<count { made.append(request.open()) }
        } else {
            made = forwarder.factory(.init(repeating: request, count: count))
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
        guard entry.rule.direction == .inbound else { throw .noNamespaceSockets(failure) }
        throw .cannotListen(
            entry.name(place, entry.ports.lowerBound), SystemCallError("socket", "", failure), remark: nil)
    }

    /// Makes a socket listen for a spot; the error if it cannot.
    private mutating func listen(_ spot: Spot, _ number: CInt) -> SystemCallError? {
        let outcome = fresh[spot.entry].places[spot.place].listen(
            number, port: spot.port, transport: fresh[spot.entry].rule.transport)
        if case .failed(let error) = outcome {
            HostSocket.close(number)
            return error
        }
        let listener = forwarder.listeners.add(number, entry: spot.entry, place: spot.place, port: spot.port)
        do {
            try forwarder.loop.add(
                FileDescriptor(rawValue: number), for: .readable, token: forwarder.listeners.token(listener))
        } catch {
            forwarder.listeners.close(listener)
            return error
        }
        fresh[spot.entry].add(listener, spot.place, spot.port)
        opened.append(listener)
        if outcome == .listeningWhileAbsent { absent.insert(spot.entry) }
        return nil
    }

    /// As ``listen(_:_:)`` with a new socket.
    private mutating func listenAnew(_ spot: Spot) -> SystemCallError? {
        switch forwarder.socket(for: fresh[spot.entry], spot.place) {
        case .failure(let error): error
        case .success(let number): listen(spot, number)
        }
    }

    // MARK: A port that somebody else has

    /// Waits for a predecessor to go, if it may be that; then fails.
    private mutating func retry(_ spot: Spot, after first: SystemCallError) throws(ForwardingError) {
        let entry = fresh[spot.entry]
        var error = first
        var holder: PortHolder?
        if error.errno == .addressInUse {
            holder = self.holder(of: spot)
            while MonotonicTime.now < patience, holder?.mayBeSibling ?? true {
                var pause = timespec(tv_sec: 0, tv_nsec: 5_000_000)
                unsafe nanosleep(&pause, nil)
                guard let again = listenAnew(spot) else { return }
                error = again
                if error.errno != .addressInUse { break }
            }
        }
        throw .cannotListen(entry.name(spot.place, spot.port), error, remark: remark(error, spot, holder))
    }

    private func holder(of spot: Spot) -> PortHolder? {
        let rule = fresh[spot.entry].rule
        guard rule.direction == .inbound else { return nil }
        return forwarder.options.holders[rule.transport, spot.port]
    }

    private func remark(_ error: SystemCallError, _ spot: Spot, _ holder: PortHolder?) -> String? {
        switch error.errno {
        case .addressInUse:
            return holder?.description.map { "it belongs to \($0)" }
        case .permissionDenied:
            let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
            let limit = Self.contents(of: path).map { " (now \($0))" } ?? ""
            return """
                ports below net.ipv4.ip_unprivileged_port_start\(limit) need CAP_NET_BIND_SERVICE; lower it, or forward \
                a higher port
                """
        default:
            return nil
        }
    }

    private static func contents(of path: String) -> String? {
        guard let file = try? OwnedFileDescriptor.open(path, .readOnly) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 64)
        let number = file.rawValue
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe read(number, $0.baseAddress, $0.count) }
        guard count > 1 else { return nil }
        return String(decoding: bytes[..<(count - 1)], as: UTF8.self)
    }

    // MARK: Old sockets in the way

    /// Whether a socket of the old table that is going to be closed has a spot's port.
    private func oldSocketBlocks(_ spot: Spot) -> Bool {
        forwarder.entries.indices.contains { !blocking(spot, $0).isEmpty }
    }

    /// The places where an entry of the old table listens on a spot's port for the last time.
    private func blocking(_ spot: Spot, _ index: Int) -> [Int] {
        let old = forwarder.entries[index]
        guard old.rule.direction == fresh[spot.entry].rule.direction,
            old.rule.transport == fresh[spot.entry].rule.transport
        else { return [] }
        return old.places.indices.filter { place in
            old.listener(place, spot.port).map { kept[$0] == nil } ?? false
        }
    }

    private mutating func openPostponed() throws(ForwardingError) {
        for spot in postponed {
            for index in forwarder.entries.indices {
                for place in blocking(spot, index) {
                    guard let listener = forwarder.entries[index].remove(place, spot.port) else { continue }
                    forwarder.listeners.close(listener)
                    cleared.append(Spot(entry: index, place: place, port: spot.port))
                }
            }
            if let error = listenAnew(spot) { try retry(spot, after: error) }
        }
    }

    // MARK: Ending

    /// Closes what this change has opened; the old table is whole again.
    mutating func undo() {
        for listener in opened { forwarder.listeners.close(listener) }
        for spot in cleared {
            // What we had a moment ago; if somebody was faster there is nothing better to do than to say so.
            if case .failure(let error) = forwarder.open(spot.entry, spot.port) {
                forwarder.options.logger.error("\(error)")
            }
        }
    }

    /// Closes what the new table does not have, and puts it in force.
    mutating func commit() {
        let new = Set(opened)
        for index in forwarder.listeners.indices where forwarder.listeners[index].socket >= 0 && !new.contains(index) {
            if let spot = kept[index] {
                forwarder.listeners[index].entry = spot.entry
                forwarder.listeners[index].place = spot.place
            } else {
                forwarder.listeners.close(index)
            }
        }
        for index in absent where !fresh[index].absenceIsReported {
            fresh[index].absenceIsReported = true
            forwarder.reportAbsence(fresh[index].rule)
        }
        for entry in fresh where entry.waitsForDevice {
            forwarder.options.logger.notice(
                "there is no interface '\(entry.rule.interface ?? "")' at present: \(entry.rule) waits for it")
        }
        forwarder.entries = fresh
    }
}

/// Where rules listen, as far as the kernel goes along.
private struct Places {
    private var hasIPv6: Set<ForwardDirection> = [.inbound, .outbound]
    private var bindsToDevices = true

    /// Tries what the kernel can.
    init(_ forwarder: PortForwarder, _ rules: [PortForward]) throws(ForwardingError) {
        let isUsed = Set(rules.map(\.direction))
        let request = ListeningPlace().request(.tcp)
        if isUsed.contains(.inbound) {
            switch request.open() {
            case .success(let probe): HostSocket.close(probe.rawValue)
            case .failure: hasIPv6.remove(.inbound)
            }
        }
        guard isUsed.contains(.outbound) else { return }
        let probes = forwarder.factory([request, NamespaceSocketPool.Kind.tcpv4.request])
        if case .failure? = probes.first { hasIPv6.remove(.outbound) }
        for probe in probes {
            switch probe {
            case .success(let descriptor):
                if !ListeningPlace.mayBind(descriptor.rawValue, toDevice: "lo") { bindsToDevices = false }
                HostSocket.close(descriptor.rawValue)
            case .failure(let error):
                if probes.count < 2 || error != .addressFamilyNotSupported { throw .noNamespaceSockets(error) }
            }
        }
        if !bindsToDevices {
            forwarder.options.logger.warning(
                "the kernel does not let us bind to 'lo': -T and -U listen on 127.0.0.1 and ::1 in the namespace")
        }
    }

    func places(of rule: PortForward) -> [ListeningPlace] {
        var address = rule.address?.asIPv6
        let has = hasIPv6.contains(rule.direction)
        if address == nil, !has { address = IPv6Address(mapping: .unspecified) }
        guard rule.direction == .outbound else { return [ListeningPlace(address: address, device: rule.interface)] }
        if bindsToDevices { return [ListeningPlace(address: address, device: "lo")] }
        let v4 = ListeningPlace(address: IPv6Address(mapping: .loopback))
        let v6 = ListeningPlace(address: .loopback)
        guard let address else { return [v4, v6] }
        return [address.isIPv4Mapped ? v4 : v6]
    }
}
