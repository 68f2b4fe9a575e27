// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Changes of the rules while the program runs, and the state of each rule.

internal import Glibc
internal import LinuxSystem
public import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// A change that has been asked for.
struct WaitingChange {
    var compute: ([PortForward]) throws(PortForwardingError) -> [PortForward]
    var completion: (Result<[PortForward], PortForwardingError>) -> Void
    /// How often sockets of the namespace were requested.
    var attempts = 0
}

/// The counters of forwarded ports.
public struct ForwardCounters: Hashable, Sendable {
    init() {}

    /// Connections accepted.
    public var accepted: UInt64 = 0
    /// Accepted connections that could not be forwarded to the namespace.
    public var refused: UInt64 = 0
    /// Changes of the rules that were made.
    public var changes: UInt64 = 0
    /// Changes that could not be made.
    public var failedChanges: UInt64 = 0
    /// How often listening TCP sockets were ready.
    public var streamListenerEvents: UInt64 = 0
    /// How often UDP sockets that take clients were ready.
    public var datagramListenerEvents: UInt64 = 0
    /// How often sockets of spliced connections were ready.
    public var spliceEvents: UInt64 = 0
    /// How often sockets of spliced UDP clients were ready.
    public var relayEvents: UInt64 = 0
}

/// The figures of forwarded ports at one moment.
public struct ForwardFigures: Hashable, Sendable {
    /// The counters.
    public var counters = ForwardCounters()
    /// Rules in force.
    public var rules = 0
    /// Sockets that listen.
    public var listeners = 0
    /// Connections that are spliced.
    public var connections = 0
    /// UDP clients that are spliced.
    public var clients = 0

    /// Makes figures that are all zero.
    public init() {}

    init(counters: ForwardCounters, rules: Int, listeners: Int, connections: Int, clients: Int) {
        self.counters = counters
        self.rules = rules
        self.listeners = listeners
        self.connections = connections
        self.clients = clients
    }
}

/// A rule in force, and its state.
public struct ForwardState: Hashable, Sendable {
    /// What a rule waits for.
    public enum Wait: String, Hashable, Sendable {
        /// Its interface does not exist.
        case interface
        /// The host does not have its address; the ports are bound already and work as soon as the address is added.
        case address
    }

    /// The rule.
    public var rule: PortForward
    /// Ports that are listened on.
    public var openPorts: Int
    /// Ports that another process has, which are tried again.
    public var takenPorts: Int
    /// What the rule waits for; nil if it does not wait.
    public var wait: Wait?

    /// Makes the state of a rule.
    public init(rule: PortForward, openPorts: Int, takenPorts: Int, wait: Wait?) {
        self.rule = rule
        self.openPorts = openPorts
        self.takenPorts = takenPorts
        self.wait = wait
    }
}

extension ForwardedPorts {
    /// Replaces all rules while the program runs; returns at once.
    ///
    /// Rules that stay keep their listening sockets. Flows that exist are not touched.
    ///
    /// - Parameters:
    ///   - forwards: the rules, none of which conflict.
    ///   - completion: is called on the ports' loop: with nil once all the rules are in force, or with the first
    ///     explicit port that cannot be opened; then nothing has changed.
    public func change(to forwards: [PortForward], completion: @escaping (PortForwardingError?) -> Void) {
        change { (_) throws(PortForwardingError) in
            forwards
        } completion: { outcome in
            if case .failure(let error) = outcome { completion(error) } else { completion(nil) }
        }
    }

    /// As ``change(to:completion:)``, with rules that are computed from the rules in force when the change begins.
    ///
    /// - Parameters:
    ///   - compute: makes the new rules from those in force; an error ends the change.
    ///   - completion: is called with the rules in force after the change.
    public func change(
        _ compute: @escaping ([PortForward]) throws(PortForwardingError) -> [PortForward],
        completion: @escaping (Result<[PortForward], PortForwardingError>) -> Void
    ) {
        changes.append(WaitingChange(compute: compute, completion: completion))
        guard !isChanging else { return }
        isChanging = true
        nextChange()
    }

    /// How often more sockets of the namespace are requested if the rules in force have changed meanwhile.
    private static let attempts = 3

    /// Begins the first waiting change, or continues it once the namespace has made the descriptors that it needs.
    private func nextChange(_ supply: NamespaceSupply? = nil) {
        guard let first = changes.first else { return }
        var supply = supply
        do throws(PortForwardingError) {
            let wanted = try first.compute(forwards)
            abilities.askHost()
            if abilities.mustAskNamespace(for: wanted) {
                return ask(ListeningAbilities.requests) { $0.learnAbilities($1) }
            }
            var change = RuleChange(owner: self, patience: 0)
            try change.layOut(wanted)
            let requests = change.requests
            if supply == nil, !requests.isEmpty {
                changes[0].attempts += 1
                return ask(requests) { $0.nextChange(NamespaceSupply(requests, $1)) }
            }
            let made = supply ?? NamespaceSupply()
            supply = nil
            do throws(PortForwardingError) {
                try carryOut(&change, made)
            } catch .noNamespaceSockets(.resourceTemporarilyUnavailable) where first.attempts < Self.attempts {
                return nextChange()
            }
            endChange(.success(wanted))
        } catch {
            supply?.close()
            endChange(.failure(error))
        }
    }

    private func learnAbilities(_ answers: NamespaceAnswers) {
        do throws(PortForwardingError) {
            try abilities.learn(answers, options.logger)
        } catch {
            return endChange(.failure(error))
        }
        nextChange()
    }

    /// Requests descriptors of the namespace, and continues when they have been made.
    private func ask(
        _ requests: [NamespaceRequest], _ body: @escaping @Sendable (ForwardedPorts, NamespaceAnswers) -> Void
    ) {
        let ports = LoopBound(self, on: loop)
        namespace.openLater(requests) { answers in ports.perform { body($0, answers) } }
    }

    private func endChange(_ outcome: Result<[PortForward], PortForwardingError>) {
        let change = changes.removeFirst()
        if case .success(let forwards) = outcome {
            counters.changes &+= 1
            options.keeper?.rulesDidChange(forwards)
        } else {
            counters.failedChanges &+= 1
        }
        change.completion(outcome)
        isChanging = !changes.isEmpty
        // The next change begins in another turn of the loop.
        let ports = LoopBound(self, on: loop)
        if isChanging { ports.perform { $0.nextChange() } }
    }

    // MARK: What the rules are at

    /// The present figures.
    public var figures: ForwardFigures {
        ForwardFigures(
            counters: counters, rules: rules.count, listeners: listeners.count, connections: splices.count,
            clients: relays.count)
    }

    /// The rules in force with their states.
    public var states: [ForwardState] {
        rules.map { rule in
            var wait: ForwardState.Wait?
            if rule.waitsForDevice {
                wait = .interface
            } else if rule.rule.direction == .inbound, rule.places[0].isAbsent {
                wait = .address
            }
            return ForwardState(
                rule: rule.rule, openPorts: rule.openPorts.count, takenPorts: rule.pending.count, wait: wait)
        }
    }
}
