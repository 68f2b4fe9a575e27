// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import SystemPackage

/// Descriptors of the namespace that a change of the rules needs, made before the change begins.
///
/// The namespace's thread is asked once for all of them, so that the change itself waits for nobody.
struct NamespaceSupply {
    private var made: [NamespaceRequest: [Result<FileDescriptor, Errno>]] = [:]

    /// Makes an empty supply.
    init() {}

    /// Takes over what requests have led to.
    init(_ requests: [NamespaceRequest], _ answers: NamespaceAnswers) {
        for (request, answer) in zip(requests, answers) { made[request, default: []].append(answer) }
    }

    /// Takes one out, which is the caller's then.
    ///
    /// - Returns: the descriptor, or why it could not be made; nil if there is none left.
    mutating func take(_ request: NamespaceRequest) -> Result<FileDescriptor, Errno>? {
        made[request]?.popLast()
    }

    /// Takes several out; `EAGAIN` stands for those that there are none left of.
    mutating func take(_ requests: [NamespaceRequest]) -> NamespaceAnswers {
        requests.map { take($0) ?? .failure(.resourceTemporarilyUnavailable) }
    }

    /// Closes what is left.
    mutating func close() {
        for case .success(let descriptor) in made.values.joined() { HostSocket.close(descriptor.rawValue) }
        made = [:]
    }
}
