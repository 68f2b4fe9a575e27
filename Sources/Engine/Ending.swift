// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Glibc
internal import NamespaceControl

/// How the program ends.
public enum Ending: Hashable {
    /// With an exit status.
    case status(Int32)
    /// By a signal that it was sent, and its command died of.
    case signal(Int32)

    /// Ends the process so.
    public func carryOut() -> Never {
        switch self {
        case .status(let status): exit(status)
        case .signal(let number): SignalDeath.end(by: number)
        }
    }
}
