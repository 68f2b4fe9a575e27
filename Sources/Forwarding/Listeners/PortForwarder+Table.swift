// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Changing the table of rules.
//
// syscalls: getrlimit nanosleep

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Logging
public import NetworkModel
internal import NetworkTypes
internal import SystemPackage

extension PortForwarder {
    /// Replaces all rules: listens on what is new, keeps what stays, then closes what is no longer wanted.
    ///
    /// Ports of `auto` rules are opened as far as the other side listens already. A rule for a device that does not
    /// exist waits for it; one for an address that the host does not have listens already (`IP_FREEBIND`). Both are
    /// reported, as are ports of best-effort and `auto` rules that cannot be had.
    ///
    /// - Parameter rules: the rules, none of which conflict.
    /// - Throws: The first port that was asked for by number and cannot be had, or the limit in the way. The rules in
    ///   force are as before then, and every port that they have.
    public func setForwards(_ rules: [PortForward]) throws(ForwardingError) {
        var change = TableChange(forwarder: self, patience: hasStarted ? 0 : options.patience)
        do {
            try change.prepare(rules)
        } catch {
            change.undo()
            throw error
        }
        change.commit()
        hasStarted = true
        var skipped = change.skipped
        if entries.contains(where: { $0.rule.policy == .scanned }) { scan(&skipped) }
        if !skipped.isEmpty { options.logger.warning("\(skipped.summary)") }
        scheduleScan()
        schedulePending()
    }

    /// Tries again what waits for a device or for a port that somebody else had, and renews the sockets of devices that
    /// have come back under another index.
    ///
    /// To be called after each change of the host's links.
    public func retryPendingForwards() {
        var skipped = SkippedPorts()
        for index in entries.indices {
            guard let device = entries[index].rule.interface, entries[index].rule.direction == .inbound else {
                continue
            }
            let present = unsafe if_nametoindex(device)
            if present == 0 {
                if !entries[index].waitsForDevice, entries[index].deviceIndex != 0 { wait(index, for: device) }
                continue
            }
            if present == entries[index].deviceIndex, !entries[index].waitsForDevice { continue }
            closeAll(of: index)
            entries[index].deviceIndex = present
            entries[index].waitsForDevice = false
            guard entries[index].rule.policy != .scanned else { continue }
            for port in entries[index].ports {
                if case .failure(let error) = open(index, port) {
                    skipped.add(entries[index].rule, port, error.errno)
                    if error.errno == .addressInUse { entries[index].pending.append(port) }
                }
            }
            options.logger.notice("interface '\(device)' is there: \(entries[index].rule)")
        }
        if !skipped.isEmpty { options.logger.warning("\(skipped.summary)") }
        tryPending()
    }

    /// Puts a rule to sleep whose device has gone.
    private func wait(_ index: Int, for device: String) {
        closeAll(of: index)
        entries[index].waitsForDevice = true
        options.logger.notice("interface '\(device)' is gone: \(entries[index].rule) waits for it")
    }

    private func closeAll(of index: Int) {
        entries[index].pending = []
        for port in entries[index].openPorts { close(index, port) }
    }

    // MARK: Single ports

    /// Listens on a port of a rule at every place where it does not listen yet.
    func open(_ index: Int, _ port: UInt16) -> Result<Void, SystemCallError> {
        for place in entries[index].places.indices where entries[index].listener(place, port) == nil {
            let made: Result<CInt, SystemCallError> = socket(for: entries[index], place)
            switch made {
            case .failure(let error): return .failure(error)
            case .success(let number):
                switch listen(number, entries[index], index, place, port) {
                case .failure(let error): return .failure(error)
                case .success(let listener): entries[index].add(listener, place, port)
                }
            }
        }
        return .success(())
    }

    /// Stops listening on a port of a rule.
    func close(_ index: Int, _ port: UInt16) {
        for place in entries[index].places.indices {
            if let listener = entries[index].remove(place, port) { listeners.close(listener) }
        }
    }

    /// A new socket on the side that listens.
    func socket(for entry: ForwardingEntry, _ place: Int) -> Result<CInt, SystemCallError> {
        let request = entry.places[place].request(entry.rule.transport)
        let made =
            entry.rule.direction == .inbound ? request.open() : factory([request]).first ?? .failure(.noSuchProcess)
        return made.map(\.rawValue).mapError { SystemCallError("socket", "", $0) }
    }

    /// Makes a socket listen and watches it; the socket is closed if that fails.
    func listen(
        _ number: CInt, _ entry: ForwardingEntry, _ index: Int, _ place: Int, _ port: UInt16
    ) -> Result<Int, SystemCallError> {
        let outcome = entry.places[place].listen(number, port: port, transport: entry.rule.transport)
        if case .failed(let error) = outcome {
            HostSocket.close(number)
            return .failure(error)
        }
        let listener = listeners.add(number, entry: index, place: place, port: port)
        do {
            try loop.add(FileDescriptor(rawValue: number), for: .readable, token: listeners.token(listener))
        } catch {
            listeners.close(listener)
            return .failure(error)
        }
        if outcome == .listeningWhileAbsent, index < entries.count, !entries[index].absenceIsReported {
            entries[index].absenceIsReported = true
            reportAbsence(entry.rule)
        }
        return .success(listener)
    }

    func reportAbsence(_ rule: PortForward) {
        guard let address = rule.address else { return }
        options.logger.notice("the host does not have \(address) at present: \(rule) works as soon as it does")
    }
}
