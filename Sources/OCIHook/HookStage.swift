// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The stages of a container's life in which the hook acts.
public enum HookStage: String, CaseIterable, Sendable {
    /// The namespaces exist and the container's program does not run yet: the network is attached.
    case createRuntime
    /// The container is gone: what is left is cleaned up.
    case poststop

    /// Reads the hook's argument; the default is createRuntime.
    ///
    /// - Parameter argument: the argument in the runtime's configuration.
    /// - Throws: When it is another stage.
    public init(argument: String?) throws(HookError) {
        guard let argument else {
            self = .createRuntime
            return
        }
        guard let stage = HookStage(rawValue: argument) else {
            throw HookError(
                "stage \(quoted(argument))",
                "not supported: use this hook in createRuntime, and in poststop with the argument poststop")
        }
        self = stage
    }

    /// Checks that the container is in a state in which this stage can work.
    ///
    /// - Parameter state: the container's state.
    /// - Throws: When the runtime has called the hook in another stage.
    public func check(_ state: ContainerState) throws(HookError) {
        guard self == .createRuntime else { return }
        guard ["creating", "created", ""].contains(state.status) else {
            throw HookError(
                "container \(state.id) is \(state.status)",
                "the network is attached in stage createRuntime, before the container runs")
        }
        guard state.processID > 0 else {
            throw HookError(
                "container \(state.id)",
                "the runtime tells no process id: use this hook in stage createRuntime")
        }
    }
}
