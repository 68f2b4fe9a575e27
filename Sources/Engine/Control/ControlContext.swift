// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import Logging
internal import Options

/// The parts of the running instance that the handlers of the control socket use.
struct ControlContext: Sendable {
    /// The command line.
    let invocation: Invocation
    /// The control loop, on which handlers run.
    let loop: EventLoop
    /// The present state and its changes.
    let chronicle: Chronicle
    /// The data path; nil with `--splice-only`.
    let dataPath: DataPathControl?
    /// The methods that concern data path, forwarded ports and log.
    let methods: RunningMethods
    /// The log, whose level can be changed.
    let log: Log
    /// The rules on what may leave, and the record of flows.
    let egress: EgressControl
    /// The version of Landlock's interface that is in use, as it was at start: the filters allow no question.
    let landlockVersion: Int32
}
