// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The messages of the data path for `--trace`: flows and batches. The settings are stored, so that the hot path tests
// one Bool.

internal import LinuxSystem
internal import Logging
internal import NetworkTypes
internal import Wire

extension DataPath {
    /// Which messages are logged.
    struct FlowTrace {
        /// A line for each flow that begins or ends.
        let flows: Bool
        /// A line for each batch of frames.
        let batches: Bool

        init(of logger: Logger) {
            let level = logger.logLevel
            flows = level <= .trace
            batches = level <= .trace
        }
    }

    /// Logs a flow; not inlined.
    @inline(never)
    func traceFlow(_ index: Int, _ what: String) {
        let key = table[index].key
        let guest = Endpoint(address: key.guest, port: key.guestPort)
        let remote = Endpoint(address: key.remote, port: key.remotePort)
        let name: String
        switch key.transport {
        case .tcp: name = "TCP"
        case .udp: name = "UDP"
        default: name = "echo"
        }
        options.logger.trace("flow \(index) \(what): \(name) \(guest) - \(remote), \(table.count) flows")
    }

    /// Logs a batch of frames; not inlined.
    @inline(never)
    func traceBatch(frames: Int, bytes: Int) {
        options.logger.trace("tap: \(frames) frames, \(bytes) bytes; \(table.count) flows")
    }
}
