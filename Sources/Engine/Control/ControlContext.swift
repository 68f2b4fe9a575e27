// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import Logging
internal import Options

/// What the handlers of the control socket reach of the running instance.
struct ControlContext: Sendable {
    /// The command line.
    let invocation: Invocation
    /// The control loop, on which handlers run.
    let loop: EventLoop
    /// What holds and what has changed.
    let chronicle: Chronicle
    /// The data path; nil with `--splice-only`.
    let dataPath: DataPathControl?
    /// What can be asked of data path, forwarded ports and log.
    let methods: RunningMethods
    /// The log, whose level can be changed.
    let log: Log
}
