// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Clients that obey the RFCs, as pure values, for the property that a client which has seen any sequence of host changes
// ends with what a fresh client would get.

import NetworkModel
import NetworkTypes
import TestSupport
import Wire

@testable import Services

/// A DHCP client (RFC 2131 §4.4) at the other end of a link that may lose messages.
struct DHCPv4Client {
    /// What the client has configured: all options of the acknowledgment and the address.
    struct Configuration: Equatable {
        var address: IPv4Address
        var options: [UInt8: [UInt8]]
    }

    private typealias Code = DHCPv4Message.OptionCode
    /// How long a client waits before it begins anew, in milliseconds.
    private static let retry: Int64 = 4000
    private static let timers: Set<UInt8> = [
        Code.messageType, Code.leaseTime, Code.renewalTime, Code.rebindingTime, Code.authentication,
        Code.forceRenewNonceCapable,
    ]

    let mac: MACAddress
    let watchesCarrier: Bool
    let takesForceRenew: Bool
    private(set) var configuration: Configuration?
    private var server: IPv4Address?
    private var renewal: Int64 = 0
    private var rebinding: Int64 = 0
    private var end: Int64 = 0
    /// When the client next acts.
    private(set) var deadline: Int64 = 0
    private var nonce: [UInt8] = []

    init(mac: MACAddress, watchesCarrier: Bool = false, takesForceRenew: Bool = false) {
        self.mac = mac
        self.watchesCarrier = watchesCarrier
        self.takesForceRenew = takesForceRenew
    }

    private func message(_ options: [DHCPv4Message.Option], _ kind: DHCPv4Message.Kind) -> DHCPv4Message {
        let capable = DHCPv4Message.Option(Code.forceRenewNonceCapable, [1])
        return DHCPv4Message(
            request: kind, transactionID: 1, clientMAC: mac, options: options + (takesForceRenew ? [capable] : []))
    }

    /// Acts if the time has come: `ask` is the server at the other end.
    mutating func act(now: Int64, _ ask: (DHCPv4Message) -> DHCPv4Message?) {
        guard now >= deadline else { return }
        if configuration != nil, now >= end { configuration = nil }
        guard let held = configuration else { return discover(now, ask) }
        // RENEWING and REBINDING: neither the server nor the wanted address is named.
        var request = message([], .request)
        request.clientAddress = held.address
        take(ask(request), now)
        if configuration != nil, deadline <= now { deadline = min(now + Self.retry, end) }
    }

    private mutating func discover(_ now: Int64, _ ask: (DHCPv4Message) -> DHCPv4Message?) {
        deadline = now + Self.retry
        guard let offer = ask(message([], .discover)), offer.kind == .offer,
            let server = offer.address(Code.serverIdentifier)
        else { return }
        take(
            ask(
                message(
                    [
                        .init(Code.requestedAddress, DHCPv4Options.bytes(offer.yourAddress)),
                        .init(Code.serverIdentifier, DHCPv4Options.bytes(server)),
                    ], .request)), now)
    }

    private mutating func take(_ reply: DHCPv4Message?, _ now: Int64) {
        switch reply?.kind {
        case .acknowledgment:
            guard let reply, let time = reply.address(Code.leaseTime)?.rawValue else { return }
            var options: [UInt8: [UInt8]] = [:]
            for option in reply.options where !Self.timers.contains(option.code) { options[option.code] = option.data }
            configuration = Configuration(address: reply.yourAddress, options: options)
            server = reply.address(Code.serverIdentifier)
            end = now + Int64(time) * 1000
            renewal = now + Int64(reply.address(Code.renewalTime)?.rawValue ?? time / 2) * 1000
            deadline = renewal
            if let data = reply[Code.authentication] { nonce = Array(data.suffix(16)) }
        // As udhcpc does, only from the server that gave the lease.
        case .negativeAcknowledgment where reply?.address(Code.serverIdentifier) == server:
            configuration = nil
            deadline = now
        default: break
        }
    }

    /// The carrier was off and is on again: the client asks whether its address is still right (INIT-REBOOT).
    mutating func carrierCame(now: Int64, _ ask: (DHCPv4Message) -> DHCPv4Message?) {
        guard watchesCarrier, let held = configuration else { return }
        take(ask(message([.init(Code.requestedAddress, DHCPv4Options.bytes(held.address))], .request)), now)
    }

    /// A FORCERENEW came: the client renews if the digest is right.
    mutating func forced(_ force: DHCPv4Message, now: Int64) {
        guard takesForceRenew, configuration != nil, let data = force[Code.authentication],
            let index = force.options.firstIndex(where: { $0.code == Code.authentication })
        else { return }
        var zeroed = force
        zeroed.options[index].data = data.prefix(12) + [UInt8](repeating: 0, count: 16)
        guard MessageDigest.hmac(zeroed.bytes, key: nonce) == Array(data.suffix(16)) else { return }
        deadline = now
    }
}

/// A host that configures itself from Router Advertisements (RFC 4861 §6.3.4, RFC 4862 §5.5.3, RFC 8106 §5.3).
struct AdvertisementClient {
    /// A lifetime of an entry: preferred and valid until, in milliseconds.
    private struct Life {
        var preferred: Int64
        var valid: Int64
    }

    private static let twoHours: Int64 = 7_200_000

    private var routers: [IPv6Address: Int64] = [:]
    private var onLink: [Prefix: Int64] = [:]
    private var addresses: [Prefix: Life] = [:]
    private var routes: [Prefix: Int64] = [:]
    private var servers: [IPv6Address: Int64] = [:]
    private var domains: [DNSName: Int64] = [:]
    private var mtu: UInt32?

    private func time(_ now: Int64, _ seconds: UInt32) -> Int64 {
        seconds == .max ? .max : now + Int64(seconds) * 1000
    }

    mutating func take(_ advertisement: RouterAdvertiser.Advertisement, now: Int64) {
        let content = advertisement.content
        let source = advertisement.source
        routers[source] = content.routerLifetime == 0 ? nil : time(now, UInt32(content.routerLifetime))
        if let told = content.mtu { mtu = told }
        for information in content.prefixes {
            guard let prefix = Prefix(.v6(information.prefix), length: Int(information.prefixLength)) else { continue }
            if information.isOnLink {
                onLink[prefix] = information.validLifetime == 0 ? nil : time(now, information.validLifetime)
            }
            guard information.isAutonomous, information.prefixLength == 64,
                information.preferredLifetime <= information.validLifetime
            else { continue }
            let valid = time(now, information.validLifetime)
            let preferred = time(now, information.preferredLifetime)
            if let old = addresses[prefix], old.valid > now {
                // RFC 4862 §5.5.3 e: what is left is shortened to two hours at most.
                let kept =
                    valid > now + Self.twoHours || valid > old.valid ? valid : min(old.valid, now + Self.twoHours)
                addresses[prefix] = Life(preferred: preferred, valid: kept)
            } else if information.validLifetime != 0 {
                addresses[prefix] = Life(preferred: preferred, valid: valid)
            }
        }
        for route in content.routes {
            guard let prefix = Prefix(.v6(route.prefix), length: Int(route.prefixLength)) else { continue }
            routes[prefix] = route.lifetime == 0 ? nil : time(now, route.lifetime)
        }
        for list in content.recursiveDNS {
            for server in list.servers { servers[server] = list.lifetime == 0 ? nil : time(now, list.lifetime) }
        }
        for list in content.searchLists {
            for domain in list.domains { domains[domain] = list.lifetime == 0 ? nil : time(now, list.lifetime) }
        }
    }

    /// What is configured, one line each; addresses only as long as they are preferred.
    func state(now: Int64) -> [String] {
        let lines =
            routers.filter { $0.value > now }.map { "router \($0.key)" }
            + onLink.filter { $0.value > now }.map { "on link \($0.key)" }
            + addresses.filter { $0.value.preferred > now && $0.value.valid > now }.map { "address in \($0.key)" }
            + routes.filter { $0.value > now }.map { "route \($0.key)" }
            + servers.filter { $0.value > now }.map { "dns \($0.key)" }
            + domains.filter { $0.value > now }.map { "search \($0.key)" }
        return lines.sorted() + (mtu.map { ["mtu \($0)"] } ?? [])
    }

    /// The addresses that are valid but deprecated.
    func deprecated(now: Int64) -> Int {
        addresses.values.count { $0.valid > now && $0.preferred <= now }
    }
}

/// A DHCPv6 client with one association (RFC 8415 §18.2).
struct DHCPv6Client {
    private typealias Code = DHCPv6Message.OptionCode
    private typealias Association = DHCPv6Message.IdentityAssociation
    private static let retry: Int64 = 4000

    let acceptsReconfigure: Bool
    private(set) var addresses: [IPv6Address: Int64] = [:]
    private(set) var information: [UInt16: [UInt8]] = [:]
    private(set) var deadline: Int64 = 0
    private var server: [UInt8] = []
    private var key: [UInt8] = []

    init(acceptsReconfigure: Bool) {
        self.acceptsReconfigure = acceptsReconfigure
    }

    private func message(_ kind: DHCPv6Message.Kind, names: Bool) -> DHCPv6Message {
        var options: [DHCPv6Message.Option] = [.init(Code.clientIdentifier, [1, 2, 3])]
        if names { options.append(.init(Code.serverIdentifier, server)) }
        if acceptsReconfigure { options.append(.init(Code.reconfigureAccept, [])) }
        options.append(
            Association(identifier: 1, addresses: addresses.keys.sorted().map { .init($0, lifetime: 0) }).option)
        return DHCPv6Message(kind, transactionID: 1, options: options)
    }

    mutating func act(now: Int64, _ ask: (DHCPv6Message) -> DHCPv6Message?) {
        guard now >= deadline else { return }
        deadline = now + Self.retry
        addresses = addresses.filter { $0.value > now }
        if addresses.isEmpty {
            guard let offer = ask(message(.solicit, names: false)), offer.kind == .advertise,
                let server = offer[Code.serverIdentifier]
            else { return }
            self.server = server
            take(ask(message(.request, names: true)), now)
        } else {
            take(ask(message(.renew, names: true)), now)
        }
    }

    private mutating func take(_ reply: DHCPv6Message?, _ now: Int64) {
        guard let reply, reply.kind == .reply, let associations = try? reply.identityAssociations() else { return }
        if associations.contains(where: { $0.status == .noAddressesAvailable }) { information = [:] }
        for association in associations where association.status == nil {
            for address in association.addresses {
                addresses[address.address] =
                    address.validLifetime == 0 ? nil : now + Int64(address.validLifetime) * 1000
            }
            if !addresses.isEmpty { deadline = now + Int64(association.renewalTime) * 1000 }
        }
        information = [:]
        for option in reply.options where [Code.dnsServers, Code.searchList, Code.clientFQDN].contains(option.code) {
            if !addresses.isEmpty { information[option.code] = option.data }
        }
        if let data = reply[Code.authentication] { key = Array(data.suffix(16)) }
    }

    /// A RECONFIGURE came: the client renews if the digest is right.
    mutating func reconfigured(_ message: DHCPv6Message, now: Int64) {
        guard acceptsReconfigure, let data = message[Code.authentication],
            let index = message.options.firstIndex(where: { $0.code == Code.authentication })
        else { return }
        var zeroed = message
        zeroed.options[index].data = data.prefix(12) + [UInt8](repeating: 0, count: 16)
        guard MessageDigest.hmac(zeroed.bytes, key: key) == Array(data.suffix(16)) else { return }
        deadline = now
    }
}
