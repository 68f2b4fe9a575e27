// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import SystemPackage

/// Descriptors of the namespace that a change of the rules needs, made before the change begins.
///
/// They are requested from the namespace's thread all at once, so that the change itself never waits.
struct NamespaceSupply {
    private var made: [NamespaceRequest: [Result<FileDescriptor, Errno>]] = [:]

    /// Makes an empty supply.
    init() {}

    /// Takes ownership of the answers to requests.
    init(_ requests: [NamespaceRequest], _ answers: NamespaceAnswers) {
        for (request, answer) in zip(requests, answers) { made[request, default: []].append(answer) }
    }

    /// Removes and returns a descriptor, which the caller then owns.
    ///
    /// - Returns: the descriptor, or the error of making it; nil if none is left.
    mutating func take(_ request: NamespaceRequest) -> Result<FileDescriptor, Errno>? {
        made[request]?.popLast()
    }

    /// Removes and returns several descriptors; `EAGAIN` stands for each that is missing.
    mutating func take(_ requests: [NamespaceRequest]) -> NamespaceAnswers {
        requests.map { take($0) ?? .failure(.resourceTemporarilyUnavailable) }
    }

    /// Closes the remaining descriptors.
    mutating func close() {
        for case .success(let descriptor) in made.values.joined() { HostSocket.close(descriptor.rawValue) }
        made = [:]
    }
}
