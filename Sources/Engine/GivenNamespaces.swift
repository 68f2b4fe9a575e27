// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NamespaceControl
internal import Options
internal import SystemPackage

/// The namespaces that the command line names.
///
/// Both are opened before either is entered, and before 0, 1 and 2 change.
struct GivenNamespaces: ~Copyable {
    /// The network namespace to join.
    var network: NamespaceFile?
    /// The user namespace to join.
    var user: NamespaceFile?
    /// The descriptors of both; this value keeps the ownership.
    let descriptors: [FileDescriptor]

    /// Opens the namespaces.
    ///
    /// - Throws: If one cannot be opened or is not of its kind.
    init(_ invocation: Invocation) throws(NamespaceError) {
        var descriptors: [FileDescriptor] = []
        let user = try Self.open(
            .user, invocation.joinedUserNamespacePath, option: invocation.userNamespacePath == nil ? nil : "--userns",
            &descriptors)
        let network = try Self.open(
            .network, invocation.networkNamespacePath, option: invocation.isAttachedByPath ? "--netns" : nil,
            &descriptors)
        self.network = network
        self.user = user
        self.descriptors = descriptors
    }

    private static func open(
        _ kind: NamespaceFile.Kind, _ path: String?, option: String?, _ descriptors: inout [FileDescriptor]
    ) throws(NamespaceError) -> NamespaceFile? {
        guard let path else { return nil }
        let file: NamespaceFile
        do throws(NamespaceError) {
            file = try NamespaceFile(kind, path: path, refusesOwn: kind == .network)
        } catch {
            guard let option else { throw error }
            throw NamespaceError("\(option): \(error)")
        }
        descriptors.append(file.descriptor)
        return file
    }
}

extension Invocation {
    /// Whether the network namespace was named by `--netns`.
    fileprivate var isAttachedByPath: Bool {
        if case .attachPath = mode { true } else { false }
    }
}
