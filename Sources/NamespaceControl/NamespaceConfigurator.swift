// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

/// Reprograms the namespace while traffic flows: the programmer as an actor that runs on the namespace's thread.
///
/// Start-up uses ``NamespaceProgrammer`` directly and hands it over here when following begins.
public actor NamespaceConfigurator {
    private let thread: NamespaceThread
    private var programmer: NamespaceProgrammer
    private var isApplying = false

    /// The namespace's thread.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe thread.asUnownedSerialExecutor() }

    /// Takes over a programmer.
    public init(on thread: NamespaceThread, programmer: consuming NamespaceProgrammer) {
        self.thread = thread
        self.programmer = programmer
    }

    /// What holds now, read from the namespace's kernel.
    ///
    /// - Throws: If the interface is gone or the kernel cannot be asked.
    public func state() throws(NamespaceError) -> AppliedState {
        try programmer.state()
    }

    /// Carries out operations in order; one call at a time.
    ///
    /// Of what holds afterwards only the addresses are read here: the next difference starts from what ``state()`` reads
    /// then, which is what holds whoever has changed it meanwhile.
    ///
    /// - Parameters:
    ///   - operations: what to do, as `diff()` returned it for what ``state()`` has read.
    ///   - resetFlows: called where ``NamespaceOperation/resetFlows(_:)`` stands and awaited, so that the namespace's
    ///     kernel takes the resets while the address is still there.
    /// - Returns: the addresses of ours that are there, and what was not carried out.
    /// - Throws: If the kernel cannot be asked.
    public func apply(
        _ operations: [NamespaceOperation], resetFlows: @Sendable (IPAddress) async -> Void = { _ in }
    ) async throws(NamespaceError) -> AppliedResult {
        precondition(!isApplying, "operations that were made for the same state must not be mixed")
        isApplying = true
        defer { isApplying = false }
        var failures: [OperationFailure] = []
        var waiting: [NamespaceOperation] = []
        var rest = operations[...]
        while let operation = rest.first {
            if case .resetFlows(let address) = operation {
                await resetFlows(address)
                rest.removeFirst()
            } else {
                programmer.perform(&rest, &waiting, &failures)
            }
        }
        programmer.retry(waiting, &failures)
        return AppliedResult(ourAddresses: try programmer.ourAddresses(), failures: failures)
    }
}
