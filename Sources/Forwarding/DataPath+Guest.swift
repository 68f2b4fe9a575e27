// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// What a virtual machine has that a namespace has not: it comes and goes while the program runs, and whoever starts it
// chooses its hardware address.

internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import Wire

extension DataPath {
    /// Forgets a guest that is gone: the next one over the same link has none of its flows, leases and addresses.
    mutating func loseGuest() {
        options.logger.info("the guest has gone")
        _ = resetFlows { _ in true }
        guestMAC = .broadcast
        reassembly = Reassembly()
        seen = SeenAddresses()
        seen.adopt(translator.rules)
        services.forgetGuest(seed: .now(), now: now.milliseconds)
    }

    /// Tells a guest that has come what there is.
    mutating func meetGuest() {
        options.logger.info("a guest has connected")
        services.forgetGuest(seed: .now(), now: now.milliseconds)
        sendDue()
    }

    /// Gives the gateway another hardware address where the guest has taken its own.
    ///
    /// Two hosts of one link with one address cannot work: some versions of libvirt give the guest's as that of the
    /// gateway. It is done once, since a guest could go on with it for ever.
    @inline(never)
    mutating func avoidGuestAddress(_ address: MACAddress) {
        guard gatewayStandIn == nil else { return }
        let last = MACAddress(rawValue: MACAddress.defaultGateway.rawValue + 1)
        let other = address == .defaultGateway ? last : .defaultGateway
        options.logger.warning(
            "the guest's hardware address \(address) is that of the gateway (-M/--mac-addr): the gateway gets \(other)")
        gatewayStandIn = other
        var rules = translator.rules
        rules.gatewayMAC = other
        translator = Translator(rules: rules)
        gatewayMAC = other
        adopt(services.settings)
    }
}
