// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// `auto`: ports that are forwarded while somebody listens on the other side.

internal import LinuxSystem
internal import Logging
internal import NetworkModel

extension PortForwarder {
    /// Looks again after a while, as long as there is a rule that asks for it.
    func scheduleScan() {
        if let timer = scanTimer { loop.cancel(timer) }
        scanTimer = nil
        guard entries.contains(where: { $0.rule.policy == .scanned }) else {
            hostSockets = nil
            namespaceSockets = nil
            return
        }
        scanTimer = loop.schedule(at: .now.advanced(milliseconds: Self.scanInterval)) { [weak self] _ in
            guard let self else { return }
            var skipped = SkippedPorts()
            scan(&skipped)
            if !skipped.isEmpty { options.logger.warning("\(skipped.summary)") }
            scheduleScan()
        }
    }

    /// Opens and closes the ports of `auto` rules after what the other side listens on now.
    func scan(_ skipped: inout SkippedPorts) {
        // Ports that were refused are tried again now and then only: each costs a handful of calls.
        if scanCount % 8 == 0 { for index in entries.indices { entries[index].triesAgain = true } }
        scanCount &+= 1
        let inbound = entries.indices.filter { entries[$0].isScanned(.inbound) }
        if !inbound.isEmpty, let ports = portsInNamespace() {
            let wanted = Self.withoutOwn(ports, own: ownPorts(.outbound))
            for index in inbound { follow(index, wanted[entries[index].rule.transport], &skipped) }
        }
        let outbound = entries.indices.filter { entries[$0].isScanned(.outbound) }
        if !outbound.isEmpty, let ports = portsOnHost() {
            let wanted = Self.withoutOwn(ports, own: ownPorts(.inbound))
            for index in outbound { follow(index, wanted[entries[index].rule.transport], &skipped) }
        }
        for index in entries.indices { entries[index].triesAgain = false }
    }

    private func portsInNamespace() -> ListeningPorts? {
        if namespaceSockets == nil { namespaceSockets = ListeningSockets(factory) }
        return namespaceSockets?.ports()
    }

    private func portsOnHost() -> ListeningPorts? {
        if hostSockets == nil { hostSockets = ListeningSockets { $0.map { $0.open() } } }
        return hostSockets?.ports()
    }

    /// The ports that we listen on for a direction, on the side that this listens on.
    private func ownPorts(_ direction: ForwardDirection) -> ListeningPorts {
        var own = ListeningPorts()
        for index in listeners.indices where listeners[index].socket >= 0 {
            let rule = entries[listeners[index].entry].rule
            if rule.direction == direction { own[rule.transport].insert(listeners[index].port) }
        }
        return own
    }

    /// What somebody else listens on; what has a number for TCP counts for UDP, too.
    static func withoutOwn(_ ports: ListeningPorts, own: ListeningPorts) -> ListeningPorts {
        var result = ports
        result.tcp.subtract(own.tcp)
        result.udp.subtract(own.udp)
        result.udp.formUnion(result.tcp)
        return result
    }

    /// Opens the ports of a rule that are wanted, and closes the others.
    private func follow(_ index: Int, _ wanted: PortSet, _ skipped: inout SkippedPorts) {
        let entry = entries[index]
        for port in entry.openPorts where !wanted.contains(entry.target(of: port)) { close(index, port) }
        guard !entry.waitsForDevice else { return }
        var missing: [UInt16] = []
        wanted.forEach(in: entry.targets) { target in
            let port = entry.port(for: target)
            if !entry.isOpen(port), entry.triesAgain || !entry.skipped.contains(port) { missing.append(port) }
        }
        entries[index].skipped = entry.skipped.filter { wanted.contains(entry.target(of: $0)) }
        for port in missing {
            switch open(index, port) {
            case .success:
                entries[index].skipped.remove(port)
                options.logger.debug("forwarding \(entry.rule.transport) \(port)")
            case .failure(let error):
                close(index, port)
                if entries[index].skipped.insert(port).inserted { skipped.add(entry.rule, port, error.errno) }
            }
        }
    }
}
