// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Ports that another process has, of rules that tolerate that. Nothing announces that such a port becomes free, so they
// are tried again when the host changes and every `retryInterval`; without such ports there is no timer. As each try
// costs a few system calls, the number of tries at a time is limited, and the ports take turns. When one succeeds, a
// process has probably ended, and the other ports are tried at once.

internal import LinuxSystem
internal import Logging
internal import NetworkModel

extension ForwardedPorts {
    /// The greatest number of ports that are tried at a time.
    private static let batchSize = 256
    /// The time between two batches while they succeed, in milliseconds.
    private static let batchInterval: Int64 = 20

    /// Schedules the next try of pending ports, as long as there are any.
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

    /// Listens on pending ports that have become free.
    ///
    /// It stops at the end of the batch, or when no sockets of the namespace are left.
    func retryPorts() {
        let indices = rules.indices.filter { !rules[$0].pending.isEmpty }
        guard !indices.isEmpty else { return scheduleRetry() }
        let share = max(retryBudget / indices.count, 1)
        var hasOpened = false
        for index in indices {
            let ports = Array(rules[index].pending.prefix(share))
            for port in ports {
                do throws(SystemCallError) {
                    guard try open(index, port) else {
                        retryWaits = true
                        break
                    }
                    rules[index].pending.removeFirst()
                    hasOpened = true
                    regained.add(rules[index].rule, port)
                } catch {
                    // It is still taken and goes to the end of the queue.
                    rules[index].pending.removeFirst()
                    rules[index].pending.append(port)
                }
                retryBudget -= 1
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

/// Ports that have become free, collected for one message.
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
