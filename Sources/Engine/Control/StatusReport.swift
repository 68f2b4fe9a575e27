// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import JSON
internal import LinuxSystem
internal import NetworkModel
internal import NetworkTypes
internal import Options
internal import Planning

/// The answer of `status`, made from values only, so that it can be tested without an instance.
struct StatusReport {
    /// The process id.
    var process: Int32
    /// When set-up was complete.
    var started: WallTime
    /// The seconds since then.
    var uptime: Double
    /// The command line.
    var invocation: Invocation
    /// The present state.
    var state: Chronicle.State
    /// When each family last changed, and the seconds since then.
    var since: PerFamily<(time: WallTime, seconds: Double)>
    /// The number of flows; nil with `--splice-only`.
    var flowCount: Int?
    /// The forwarding rules as in `forward.list`.
    var forwards: [JSONValue]
    /// The last change of the host, if there was one.
    var lastChange: FollowedChange?
    /// The process id of the engine, if it is not the instance's (`--persist`).
    var engine: Int32?
    /// How often the engine was started anew.
    var restarts: UInt32 = 0
    /// The version of Landlock's interface in use; 0 if the kernel has none.
    var landlockVersion: Int32 = 0

    /// The answer (docs/control.md, "status").
    var json: JSONValue {
        let plan = state.plan
        return [
            "version": JSONValue(Engine.version),
            "pid": JSONValue(process),
            "uptime": .number(uptime.toMilliseconds),
            "started": JSONValue(started.description),
            "target": target,
            "policy": policy,
            "interface": [
                "name": invocation.spliceOnly ? .null : JSONValue(plan.interfaceName),
                "mtu": plan.mtu.map { JSONValue($0) } ?? .null,
            ],
            "families": ["ipv4": family(.v4), "ipv6": family(.v6)],
            "resolvers": JSONValue(plan.rules.dnsServers.map(\.text)),
            "forwards": .array(forwards),
            "flows": flowCount.map { JSONValue($0) } ?? .null,
            "skipped": .array(skipped),
            "warnings": JSONValue(plan.warnings),
            "last_change": lastChange?.json ?? .null,
            "persist": .bool(invocation.persists),
            "engine": JSONValue(engine ?? process),
            "restarts": JSONValue(restarts),
            "sandbox": [
                "filters": JSONValue(invocation.logsRefusedSystemCalls ? "log" : "end"),
                "landlock": JSONValue(landlockVersion),
            ],
        ]
    }

    private var target: JSONValue {
        switch invocation.mode {
        case .spawn(let command): ["kind": "command", "command": JSONValue(command)]
        case .attach(let pid): ["kind": "process", "pid": JSONValue(pid)]
        case .attachPath(let path): ["kind": "path", "path": JSONValue(path)]
        case .virtualMachine(let machine):
            [
                "kind": "virtual-machine",
                "transport": JSONValue(machine.transport == .stream ? "stream" : "vhost-user"),
                "one_off": .bool(machine.isForOneClient),
            ]
        }
    }

    private var policy: JSONValue {
        [
            "configures_namespace": .bool(invocation.configuration.configuresNamespace),
            "follows_host": .bool(invocation.monitorsHost),
            "hold_down": .number(Double(invocation.holdDown.wholeMilliseconds) / 1000),
            "template": JSONValue(invocation.configuration.templateInterface),
        ]
    }

    private func family(_ family: AddressFamily) -> JSONValue {
        let plan = state.plan.families[family]
        let reasons = state.plan.reasons.filter { $0.family == family }
        var addresses: [JSONValue] = plan.addresses.map { address in
            [
                "address": JSONValue("\(address.address)"), "prefix": JSONValue("\(address.prefix)"),
                "origin": JSONValue(address.origin?.description),
            ]
        }
        for (address, count) in state.lingering.sorted(by: { "\($0.key)" < "\($1.key)" })
        where address.family == family {
            let length = family.addressBitCount
            addresses.append([
                "address": JSONValue("\(address)"), "prefix": JSONValue("\(address)/\(length)"), "origin": "lingering",
                "flows": JSONValue(count),
            ])
        }
        return [
            "mode": JSONValue(plan.mode.word),
            "interface": JSONValue(plan.mode.interface),
            "addresses": .array(addresses),
            "gateway": JSONValue(plan.gateway?.description),
            "routes": JSONValue(state.routeCounts[family]),
            "mtu": state.plan.mtu.map { JSONValue($0) } ?? .null,
            "since": JSONValue(since[family].time.description),
            "since_seconds": .number(since[family].seconds.toMilliseconds),
            "reasons": JSONValue(reasons.filter { $0.placement == .mode }.map(\.text)),
        ]
    }

    /// What a user may miss in the namespace: remarks of the plan, and what its kernel refused.
    private var skipped: [JSONValue] {
        let remarks = state.plan.reasons.filter { $0.placement == .remark && $0.cause.isOmission }
        return remarks.map(\.json)
            + state.failures.map { ["family": .null, "rule": "kernel-refused", "text": JSONValue($0)] }
    }
}

extension FamilyMode {
    /// The word of the protocol.
    var word: String {
        switch self {
        case .off: "off"
        case .manual: "manual"
        case .template: "template"
        case .local: "local"
        case .transparent: "transparent"
        case .opaque: "opaque"
        }
    }

    /// The host interface that is copied.
    var interface: String? {
        switch self {
        case .template(_, let name), .transparent(let name): name
        case .off, .manual, .local, .opaque: nil
        }
    }
}

extension ResolverConfiguration.Server {
    /// The address with its zone.
    var text: String { "\(address)" + (zone.map { "%\($0)" } ?? "") }
}

extension AddressFamily {
    /// The word of the protocol: "ipv4".
    var word: String { self == .v4 ? "ipv4" : "ipv6" }
}

extension Double {
    /// Rounded to thousandths.
    var toMilliseconds: Double { (self * 1000).rounded() / 1000 }
}

extension FollowedChange {
    /// The event of `watch` (docs/control.md).
    var json: JSONValue {
        [
            "number": JSONValue(number),
            "time": JSONValue(WallTime(milliseconds: time).description),
            "causes": JSONValue(causes),
            "held": JSONValue(held.map(\.word)),
            "changes": JSONValue(changes.map(\.description)),
            "operations": JSONValue(operations),
            "operation_count": JSONValue(operationCount),
            "failures": JSONValue(failures),
            "flows": [
                "ended": JSONValue(endedFlows),
                "pinned": .array(
                    pinned.map { ["address": JSONValue("\($0.address)"), "interface": JSONValue($0.interface)] }),
            ],
            "milliseconds": [
                "settled": .number(latencies.settled.toMilliseconds),
                "planned": .number(latencies.planned.toMilliseconds),
                "published": .number(latencies.published.toMilliseconds),
                "applied": .number(latencies.applied.toMilliseconds),
                "total": .number(latencies.total.toMilliseconds),
            ],
        ]
    }
}
