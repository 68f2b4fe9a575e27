// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Ports that somebody else has, of rules that go without: nobody announces that they are free, so they are tried again
// when the host changes and every `retryInterval`. With none of them there is no timer. As each try costs a handful of
// calls, only so many are made at a time, in turn; when one succeeds, somebody has probably ended, and the others follow
// at once.

internal import LinuxSystem
internal import Logging
internal import NetworkModel

extension ForwardedPorts {
    /// Ports tried at a time at most.
    private static let batchSize = 256
    /// The time between two batches while they succeed, in milliseconds.
    private static let batchInterval: Int64 = 20

    /// Tries pending ports again after a while, as long as there are any.
    func scheduleRetry(after milliseconds: Int64? = nil) {
        if let timer = retryTimer { loop.cancel(timer) }
        retryTimer = nil
        guard rules.contains(where: { !$0.pending.isEmpty }) else { return }
        let wait = milliseconds ?? options.retryInterval
        retryTimer = loop.schedule(at: .now.advanced(milliseconds: wait)) { [weak self] _ in self?.tryPending() }
    }

    /// Tries a batch of pending ports, in turn.
    func tryPending() {
        retryBudget = Self.batchSize
        retryPorts()
    }

    /// Listens on pending ports that have become free, as long as the batch lasts; stands back while there are no
    /// sockets of the namespace for them.
    func retryPorts() {
        let indices = rules.indices.filter { !rules[$0].pending.isEmpty }
        guard !indices.isEmpty else { return scheduleRetry() }
        let share = max(retryBudget / indices.count, 1)
        var hasOpened = false
        for index in indices {
            let ports = Array(rules[index].pending.prefix(share))
            for port in ports {
                let outcome = open(index, port)
                if case .failure(let error) = outcome, error.meansLater {
                    retryWaits = true
                    break
                }
                retryBudget -= 1
                rules[index].pending.removeFirst()
                switch outcome {
                case .success:
                    hasOpened = true
                    regained.add(rules[index].rule, port)
                case .failure:
                    rules[index].pending.append(port)
                }
            }
        }
        retryWaits = retryWaits && retryBudget > 0
        let isDone = rules.allSatisfy(\.pending.isEmpty)
        if !hasOpened || isDone, !regained.isEmpty {
            options.logger.notice("\(regained.summary)")
            regained = RegainedPorts()
        }
        scheduleRetry(after: hasOpened ? Self.batchInterval : nil)
    }
}

/// Ports that have become free, gathered for one line.
struct RegainedPorts {
    private struct Kind: Hashable {
        var direction: ForwardDirection
        var transport: TransportProtocol
    }

    private var ports: [Kind: PortSet] = [:]

    var isEmpty: Bool { ports.isEmpty }

    mutating func add(_ rule: PortForward, _ port: UInt16) {
        ports[Kind(direction: rule.direction, transport: rule.transport), default: PortSet()].insert(port)
    }

    /// `forwarded now that they are free: TCP 22, 80-90; UDP 53 in the namespace`.
    var summary: String {
        let parts = ports.map { kind, ports in
            "\(kind.transport) \(PortSet.text(ports.ports))" + (kind.direction == .outbound ? " in the namespace" : "")
        }
        return "forwarded now that they are free: " + parts.sorted().joined(separator: "; ")
    }
}
