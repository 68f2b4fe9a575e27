// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import SystemPackage

/// The families and devices that rules can listen on, which depends on the kernel and is determined once.
struct ListeningAbilities {
    /// Whether the host has IPv6; nil if that has not been determined yet.
    private var hostHasIPv6: Bool?
    /// Whether the namespace has IPv6; nil if that has not been determined yet.
    private var namespaceHasIPv6: Bool?
    /// Whether sockets may be bound to the namespace's loopback device.
    private var bindsToLoopback = true

    /// The descriptors of the namespace that show its abilities: one socket of each family.
    static let requests = [ListeningPlace().request(.tcp), NamespaceSocketPool.Kind.tcpv4.request]

    /// Whether rules depend on the namespace's abilities and these have not been determined yet.
    func mustAskNamespace(for rules: [PortForward]) -> Bool {
        namespaceHasIPv6 == nil && rules.contains { $0.direction == .outbound }
    }

    /// Determines the host's abilities.
    mutating func askHost() {
        guard hostHasIPv6 == nil else { return }
        let probe = try? ListeningPlace().request(.tcp).open()
        if let probe { HostSocket.close(probe.rawValue) }
        hostHasIPv6 = probe != nil
    }

    /// Determines the namespace's abilities from its answers to ``requests``.
    ///
    /// - Throws: If it makes no sockets.
    mutating func learn(_ answers: NamespaceAnswers, _ logger: Logger) throws(PortForwardingError) {
        var lack: Errno?
        var hasIPv6 = true
        for (index, answer) in answers.enumerated() {
            switch answer {
            case .success(let descriptor):
                // Kernels before Linux 5.7 refuse this without privilege.
                if (try? HostSocket.bind(descriptor.rawValue, toDevice: "lo")) == nil { bindsToLoopback = false }
                HostSocket.close(descriptor.rawValue)
            case .failure(let error):
                if index == 0 { hasIPv6 = false }
                if error != .addressFamilyNotSupported { lack = error }
            }
        }
        if let lack { throw .noNamespaceSockets(lack) }
        guard answers.count == Self.requests.count else { throw .noNamespaceSockets(.noSuchProcess) }
        namespaceHasIPv6 = hasIPv6
        if !bindsToLoopback {
            logger.warning(
                "the kernel does not let us bind to 'lo': -T and -U listen on 127.0.0.1 and ::1 in the namespace")
        }
    }

    /// Where a rule listens on each of its ports.
    func places(of rule: PortForward) -> [ListeningPlace] {
        var address = rule.address?.asIPv6
        let hasIPv6 = (rule.direction == .inbound ? hostHasIPv6 : namespaceHasIPv6) ?? true
        if address == nil, !hasIPv6 { address = IPv6Address(mapping: .unspecified) }
        guard rule.direction == .outbound else { return [ListeningPlace(address: address, device: rule.interface)] }
        if bindsToLoopback { return [ListeningPlace(address: address, device: "lo")] }
        let v4 = ListeningPlace(address: IPv6Address(mapping: .loopback))
        let v6 = ListeningPlace(address: .loopback)
        guard let address else { return [v4, v6] }
        return [address.isIPv4Mapped ? v4 : v6]
    }
}
