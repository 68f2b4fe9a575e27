// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Changing the rules, and opening single ports.
// syscalls: setup(main): close ioctl socket
// syscalls: running(ports): close ioctl socket

internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Logging
public import NetworkModel
internal import NetworkTypes
internal import SystemPackage

extension ForwardedPorts {
    /// Replaces all rules at start: listens on what is new, keeps what stays, then closes what is no longer wanted.
    ///
    /// Ports of `auto` rules are opened as far as the other side listens already. A rule for a device that does not
    /// exist waits for it; one for an address that the host does not have listens already (`IP_FREEBIND`). Both are
    /// warned of, or refused if nobody tells of the host's changes (``PortForwardingOptions/followsHost``); ports of
    /// best-effort and `auto` rules that cannot be opened are warned of, too.
    ///
    /// The call waits for sockets of the namespace, so it is only for the start of the program; later, use
    /// ``change(to:completion:)``.
    ///
    /// - Parameter forwards: the rules, none of which conflict.
    /// - Throws: The first explicit port that cannot be opened, or the limit that prevents it. Then the rules in force
    ///   and all their ports are as before.
    public func setForwards(_ forwards: [PortForward]) throws(PortForwardingError) {
        mayWait = true
        defer { mayWait = false }
        abilities.askHost()
        if abilities.mustAskNamespace(for: forwards) {
            try abilities.learn(namespace.open(ListeningAbilities.requests), options.logger)
        }
        var change = RuleChange(owner: self, patience: hasStarted ? 0 : options.patience)
        try change.layOut(forwards)
        let requests = change.requests
        try carryOut(&change, NamespaceSupply(requests, requests.isEmpty ? [] : namespace.open(requests)))
    }

    /// Carries out a change that was prepared by ``RuleChange/layOut(_:)``, or undoes it.
    func carryOut(_ change: inout RuleChange, _ supply: NamespaceSupply) throws(PortForwardingError) {
        do {
            try change.prepare(supply)
        } catch {
            change.undo()
            throw error
        }
        change.commit()
        hasStarted = true
        var skipped = change.skipped
        takeOverScanned()
        if rules.contains(where: { $0.rule.policy == .scanned }) { scan(&skipped) }
        if !skipped.isEmpty { options.logger.warning("\(skipped.summary)") }
        scheduleScan()
        scheduleRetry()
        prepareSockets()
    }

    /// Takes over the sockets on which a predecessor of this process listened for `auto` rules, before the first scan
    /// sees them as ports of other programs.
    private func takeOverScanned() {
        guard let keeper = options.keeper else { return }
        for name in keeper.listenerNames.compactMap({ ListenerName($0) }) {
            let index = rules.firstIndex {
                $0.isScanned(name.direction) && $0.rule.transport == name.transport && $0.ports.contains(name.port)
                    && $0.places.contains(name.place) && !$0.waitsForDevice
            }
            guard let index else { continue }
            do throws(SystemCallError) {
                _ = try open(index, name.port)
            } catch {
                close(index, name.port)
            }
        }
        keeper.releaseOtherListeners()
    }

    /// Marks the sockets that the first connections need; the first turn of the loop requests them.
    private func prepareSockets() {
        for rule in rules.map(\.rule) {
            let isStream = rule.transport == .tcp
            let isSpliced = rule.direction == .inbound && options.splicesInbound
            guard isSpliced || rule.direction == .outbound && !isStream else { continue }
            for isIPv4 in [true, false] { pool.prepare(.init(isStream: isStream, isIPv4: isIPv4)) }
        }
    }

    /// Retries rules that wait for a device and ports that another process had, and renews the sockets of devices that
    /// have come back with another index.
    ///
    /// To be called after each change of the host's links.
    public func retryPendingForwards() {
        var skipped = SkippedPorts()
        for index in rules.indices {
            guard let device = rules[index].rule.interface, rules[index].rule.direction == .inbound else {
                continue
            }
            let present = unsafe if_nametoindex(device)
            if present == 0 {
                if !rules[index].waitsForDevice, rules[index].deviceIndex != 0 { wait(index, for: device) }
                continue
            }
            if present == rules[index].deviceIndex, !rules[index].waitsForDevice { continue }
            closeAll(of: index)
            rules[index].deviceIndex = present
            rules[index].waitsForDevice = false
            guard rules[index].rule.policy != .scanned else { continue }
            for port in rules[index].ports {
                do throws(SystemCallError) {
                    // Only rules that listen on the host have devices, and sockets of the host are made at once.
                    _ = try open(index, port)
                } catch {
                    skipped.add(rules[index].rule, port, error.errno)
                    if error.errno == .addressInUse { rules[index].pending.append(port) }
                }
            }
            options.logger.notice("interface '\(device)' is there: \(rules[index].rule)")
        }
        if !skipped.isEmpty { options.logger.warning("\(skipped.summary)") }
        tryPending()
    }

    /// Suspends a rule whose device is gone.
    private func wait(_ index: Int, for device: String) {
        closeAll(of: index)
        rules[index].waitsForDevice = true
        options.logger.notice("interface '\(device)' is gone: \(rules[index].rule) waits for it")
    }

    private func closeAll(of index: Int) {
        rules[index].pending = []
        for port in rules[index].openPorts { close(index, port) }
    }

    // MARK: Single ports

    /// Listens on a port of a rule at every place where it does not listen yet.
    ///
    /// - Returns: False if there is no socket of the namespace now; more have been requested.
    /// - Throws: The error of the first place that failed.
    func open(_ index: Int, _ port: UInt16) throws(SystemCallError) -> Bool {
        for place in rules[index].places.indices where rules[index].listener(place, port) == nil {
            guard let number = try socket(for: rules[index], place) else { return false }
            let listener = try listen(number, rules[index], index, place, port)
            rules[index].add(listener, place, port)
        }
        return true
    }

    /// Stops listening on a port of a rule.
    func close(_ index: Int, _ port: UInt16) {
        for place in rules[index].places.indices {
            if let listener = rules[index].remove(place, port) { listeners.close(listener) }
        }
    }

    /// A new socket on the side that listens.
    ///
    /// - Returns: The socket, which the caller owns; nil if there is none of the namespace now.
    /// - Throws: The error of socket(2).
    func socket(for rule: ListeningRule, _ place: Int) throws(SystemCallError) -> CInt? {
        let request = rule.places[place].request(rule.rule.transport)
        do throws(Errno) {
            if rule.rule.direction == .inbound { return try request.open().rawValue }
            guard mayWait else {
                return try pool.take(.init(isStream: rule.rule.transport == .tcp, isIPv4: rule.places[place].isIPv4))
            }
            guard let answer = namespace.open([request]).first else { throw .noSuchProcess }
            return try answer.get().rawValue
        } catch {
            throw SystemCallError("socket", "", error)
        }
    }

    /// Makes a socket listen and watches it; the socket is closed if that fails.
    ///
    /// - Throws: The error of setsockopt(2), bind(2), listen(2) or epoll_ctl(2).
    func listen(
        _ number: CInt, _ rule: ListeningRule, _ index: Int, _ place: Int, _ port: UInt16
    ) throws(SystemCallError) -> Int {
        var number = number
        let name = options.keeper == nil ? nil : ListenerName(rule.rule, rule.places[place], port: port).text
        if let name, let taken = options.keeper?.takeListener(name) {
            HostSocket.close(number)
            number = taken.rawValue
        } else {
            do throws(SystemCallError) {
                try rule.places[place].listen(number, port: port, transport: rule.rule.transport)
            } catch {
                HostSocket.close(number)
                throw error
            }
        }
        let listener = listeners.add(number, rule: index, place: place, port: port, keptAs: name)
        do throws(SystemCallError) {
            try loop.add(FileDescriptor(rawValue: number), for: .readable, token: listeners.token(listener))
        } catch {
            listeners.close(listener)
            throw error
        }
        return listener
    }
}
