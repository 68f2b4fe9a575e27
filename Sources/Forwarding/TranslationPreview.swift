// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import LinuxSystem
public import NetworkModel
public import NetworkTypes
internal import Wire

/// What the rules in force would do with a new flow from the namespace, for `tapasctl explain`.
public enum TranslationPreview: Hashable, Sendable {
    /// A socket of the host to this address, bound to an address or a device if given.
    case host(IPAddress, source: IPAddress?, device: String?)
    /// The host's loopback.
    case loopback
    /// A query that goes to this resolver of the host.
    case resolver(IPAddress)
    /// A query, but the host has no resolver: tapas answers SERVFAIL.
    case noResolver
    /// tapas drops it.
    case refused(FlowDropReason)

    /// Evaluates the rules as the data path does for each new flow.
    ///
    /// - Parameters:
    ///   - rules: the rules.
    ///   - address: the destination as the namespace sees it.
    ///   - port: its port; 0 for echo requests.
    ///   - transport: the protocol; nil for ICMP echo.
    public init(_ rules: TranslationRules, to address: IPAddress, port: UInt16, transport: TransportProtocol?) {
        let number: IPProtocol
        switch transport {
        case .tcp?: number = .tcp
        case .udp?: number = .udp
        case nil: number = address.family == .v4 ? .icmp : .icmpv6
        }
        switch Translator(rules: rules).outbound(to: address, port: port, transport: number) {
        case .host(let endpoint, let source, let device):
            let target = IPAddress(unmapping: endpoint.address)
            self = target.isLoopback && !address.isLoopback ? .loopback : .host(target, source: source, device: device)
        case .resolver(let endpoint): self = .resolver(IPAddress(unmapping: endpoint.address))
        case .noResolver: self = .noResolver
        case .refused(let reason): self = .refused(reason)
        }
    }
}
