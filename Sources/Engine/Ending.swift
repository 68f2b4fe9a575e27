// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NamespaceControl

/// How the program ends.
public enum Ending: Hashable {
    /// With an exit status.
    case status(Int32)
    /// By the signal that ended its command.
    case signal(Int32)

    /// Ends the process in this way.
    public func carryOut() -> Never {
        switch self {
        case .status(let status): exit(status)
        case .signal(let number): SignalDeath.end(by: number)
        }
    }
}
