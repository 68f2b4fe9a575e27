// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Control
internal import JSON

extension ControlCommands {
    /// Adds the methods that concern the data path, the forwarded ports and the log.
    func addRunning(_ methods: RunningMethods) {
        let filter: Set<String> = [
            "protocol", "guest", "remote", "host", "guest_port", "remote_port", "host_port", "interface", "state",
        ]
        add("flows", parameters: filter.union(["sort", "limit"])) { parameters, exchange throws(ControlError) in
            try await methods.flows(parameters.object, on: exchange)
        }
        add("flows.kill", parameters: filter.union(["all"]), changes: true) { parameters, _ throws(ControlError) in
            try await methods.killFlows(parameters.object)
        }
        add("forward.list") { _, _ throws(ControlError) in await methods.listForwards() }
        let changes: [(String, RunningMethods.ForwardChange)] = [
            ("forward.add", .add), ("forward.remove", .remove), ("forward.replace", .replace),
        ]
        for (name, change) in changes {
            add(name, parameters: ["rules"], changes: true) { parameters, _ throws(ControlError) in
                try await methods.changeForwards(parameters.object, change)
            }
        }
        add("upgrade", changes: true) { _, _ throws(ControlError) in try methods.upgrade() }
        add("dns") { _, _ throws(ControlError) in await methods.dns() }
        add("metrics") { _, _ throws(ControlError) in await methods.metrics() }
        add("log.level", parameters: ["level"]) { parameters, exchange throws(ControlError) in
            if RunningMethods.changesLogLevel(parameters.object) { try Self.requireChange(exchange) }
            return try await methods.logLevel(parameters.object)
        }
        add("pcap.start", changes: true) { _, exchange throws(ControlError) in
            try await methods.startCapture(on: exchange)
        }
        add("pcap.stop", changes: true) { _, _ throws(ControlError) in try await methods.stopCapture() }
    }
}
