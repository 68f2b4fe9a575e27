// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import Options
internal import Sandbox

/// Determines the user and group that the program runs as.
enum RunAs {
    /// The identity to change to: that of `--runas`, or `nobody` for real root; nil for no change.
    ///
    /// - Throws: If a name is unknown, or a name stands for root.
    static func identity(_ invocation: Invocation) throws(Failure) -> Identity? {
        let identity = try wanted(invocation)
        return identity == .current ? nil : identity
    }

    private static func wanted(_ invocation: Invocation) throws(Failure) -> Identity? {
        guard let account = invocation.runAsUser else { return Identity.isInitialRoot ? .nobody : nil }
        var identity: Identity
        switch account {
        case .id(let number): identity = Identity(user: number, group: number)
        case .name(let name):
            guard let user = Accounts.user(named: name) else { throw Failure("--runas: there is no user '\(name)'") }
            guard user.user != 0 else {
                throw Failure("--runas: '\(name)' is root; give the number 0 if that is what you want")
            }
            identity = user
        }
        switch invocation.runAsGroup {
        case .id(let number): identity.group = number
        case .name(let name):
            guard let group = Accounts.group(named: name) else { throw Failure("--runas: there is no group '\(name)'") }
            identity.group = group
        case nil: break
        }
        return identity
    }
}

extension Identity {
    /// The two numbers.
    var numbers: (user: UInt32, group: UInt32) { (user, group) }
}
