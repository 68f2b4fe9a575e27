// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// Reprograms the namespace while traffic flows: the interface as an actor on the namespace's thread.
///
/// Start-up uses ``NamespaceInterface`` directly and hands it over here when following begins.
public actor NamespaceConfigurator {
    private let thread: NamespaceThread
    private var interface: NamespaceInterface
    private var isApplying = false

    /// The namespace's thread.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe thread.asUnownedSerialExecutor() }

    /// Takes over the interface.
    public init(on thread: NamespaceThread, interface: consuming NamespaceInterface) {
        self.thread = thread
        self.interface = interface
    }

    /// The present state, read from the namespace's kernel.
    ///
    /// - Throws: If the interface is gone or the kernel does not answer.
    public func state() throws(NamespaceError) -> AppliedState {
        try interface.state()
    }

    /// Carries out operations in order; one call at a time.
    ///
    /// Of the resulting state, only the addresses are read here. The next difference starts from what ``state()`` reads
    /// then, which is right even if another program has changed the namespace meanwhile.
    ///
    /// - Parameters:
    ///   - operations: the operations, as `diff()` returned them for the result of ``state()``.
    ///   - resetFlows: called and awaited for each ``NamespaceOperation/resetFlows(_:)``, so that the namespace's
    ///     kernel receives the resets while the address still exists.
    /// - Returns: Our addresses that exist, and the operations that failed.
    /// - Throws: If the kernel does not answer.
    public func apply(
        _ operations: [NamespaceOperation], resetFlows: @Sendable (IPAddress) async -> Void = { _ in }
    ) async throws(NamespaceError) -> AppliedResult {
        precondition(!isApplying, "operations that were made for the same state must not be mixed")
        isApplying = true
        defer { isApplying = false }
        var failures: [OperationFailure] = []
        var waiting: [NamespaceOperation] = []
        var rest = operations[...]
        interface.recordOwnership(before: operations)
        defer { interface.recordOwnership() }
        while let operation = rest.first {
            if case .resetFlows(let address) = operation {
                await resetFlows(address)
                rest.removeFirst()
            } else {
                interface.perform(&rest, &waiting, &failures)
            }
        }
        interface.retry(waiting, &failures)
        return AppliedResult(ourAddresses: try interface.ourAddresses(), failures: failures)
    }
}
