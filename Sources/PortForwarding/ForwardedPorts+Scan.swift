// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// `auto`: ports that are forwarded while a program listens on the other side.

internal import LinuxSystem
internal import Logging
internal import NetworkModel

extension ForwardedPorts {
    /// Schedules the next scan, as long as there is an `auto` rule.
    func scheduleScan() {
        if let timer = scanTimer { loop.cancel(timer) }
        scanTimer = nil
        guard rules.contains(where: { $0.rule.policy == .scanned }) else {
            hostSockets = nil
            namespaceSockets = nil
            return
        }
        scanTimer = loop.schedule(at: .now.advanced(milliseconds: Self.scanInterval)) { [weak self] _ in
            guard let self else { return }
            scanNow()
            scheduleScan()
        }
    }

    /// Scans once, and reports ports that cannot be opened.
    func scanNow() {
        var skipped = SkippedPorts()
        scan(&skipped)
        if !skipped.isEmpty { options.logger.warning("\(skipped.summary)") }
    }

    /// The descriptors of the namespace that scans for these rules need.
    func scanRequests(for rules: [ListeningRule]) -> [NamespaceRequest] {
        guard namespaceSockets == nil, rules.contains(where: { $0.isScanned(.inbound) }) else { return [] }
        return ListeningSockets.requests
    }

    /// Opens the descriptors that scans need, if there are `auto` rules, so that later scans never wait.
    ///
    /// - Parameters:
    ///   - rules: the rules that will be in force.
    ///   - supply: the descriptors that the namespace has made for ``scanRequests(for:)``.
    /// - Returns: whether all `auto` rules can be followed.
    func openScanSources(for rules: [ListeningRule], _ supply: inout NamespaceSupply) -> Bool {
        if hostSockets == nil, rules.contains(where: { $0.isScanned(.outbound) }) {
            hostSockets = ListeningSockets(NamespaceRequest.answers)
            if hostSockets == nil { return false }
        }
        if namespaceSockets == nil, rules.contains(where: { $0.isScanned(.inbound) }) {
            namespaceSockets = ListeningSockets { supply.take($0) }
            if namespaceSockets == nil { return false }
        }
        return true
    }

    /// Opens and closes the ports of `auto` rules so that they match the ports that the other side listens on now.
    func scan(_ skipped: inout SkippedPorts) {
        // Refused ports are tried again only in every eighth scan, because each costs several system calls.
        if scanCount % 8 == 0 { for index in rules.indices { rules[index].triesAgain = true } }
        scanCount &+= 1
        let inbound = rules.indices.filter { rules[$0].isScanned(.inbound) }
        if !inbound.isEmpty, let ports = namespaceSockets?.ports() {
            let wanted = Self.withoutOwn(ports, own: ownPorts(.outbound))
            for index in inbound { follow(index, wanted[rules[index].rule.transport], &skipped) }
        }
        let outbound = rules.indices.filter { rules[$0].isScanned(.outbound) }
        if !outbound.isEmpty, let ports = hostSockets?.ports() {
            let wanted = Self.withoutOwn(ports, own: ownPorts(.inbound))
            for index in outbound { follow(index, wanted[rules[index].rule.transport], &skipped) }
        }
        for index in rules.indices { rules[index].triesAgain = false }
    }

    /// The ports that tapas itself listens on for a direction.
    private func ownPorts(_ direction: ForwardDirection) -> ListeningPorts {
        var own = ListeningPorts()
        for index in listeners.indices {
            let rule = rules[listeners[index].rule].rule
            if rule.direction == direction { own[rule.transport].insert(listeners[index].port) }
        }
        return own
    }

    /// The ports that other programs listen on; a number in use for TCP counts for UDP, too.
    static func withoutOwn(_ ports: ListeningPorts, own: ListeningPorts) -> ListeningPorts {
        var result = ports
        result.tcp.subtract(own.tcp)
        result.udp.subtract(own.udp)
        result.udp.formUnion(result.tcp)
        return result
    }

    /// Opens the wanted ports of a rule, and closes the others.
    private func follow(_ index: Int, _ wanted: PortSet, _ skipped: inout SkippedPorts) {
        let rule = rules[index]
        for port in rule.openPorts where !wanted.contains(rule.target(of: port)) { close(index, port) }
        guard !rule.waitsForDevice else { return }
        var missing: [UInt16] = []
        wanted.forEach(in: rule.targets) { target in
            let port = rule.port(for: target)
            if !rule.isOpen(port), rule.triesAgain || !rule.skipped.contains(port) { missing.append(port) }
        }
        rules[index].skipped = rule.skipped.filter { wanted.contains(rule.target(of: $0)) }
        for port in missing {
            do throws(SystemCallError) {
                guard try open(index, port) else {
                    // A port of the namespace: the scan goes on when there are sockets for it.
                    close(index, port)
                    scanWaits = true
                    return
                }
                rules[index].skipped.remove(port)
                options.logger.debug("forwarding \(rule.rule.transport) \(port)")
            } catch {
                close(index, port)
                if rules[index].skipped.insert(port).inserted { skipped.add(rule.rule, port, error.errno) }
            }
        }
    }
}
