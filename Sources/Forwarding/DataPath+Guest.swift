// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// Unlike a namespace, a virtual machine connects and disconnects while the program runs, and the user who starts it
// chooses its hardware address.

internal import LinuxSystem
internal import Logging
internal import NetworkModel
internal import NetworkTypes
internal import Services
internal import Wire

extension DataPath {
    /// Discards everything about a guest that has disconnected, so that the next one has none of its flows, leases and
    /// addresses.
    mutating func loseGuest() {
        options.logger.info("the guest has gone")
        _ = resetFlows { _ in true }
        guestMAC = .broadcast
        reassembly = Reassembly()
        seen = SeenAddresses()
        seen.adopt(translator.rules)
        services.forgetGuest(seed: .now(), now: now.milliseconds)
    }

    /// Sends all announcements to a guest that has connected.
    mutating func meetGuest() {
        options.logger.info("a guest has connected")
        services.forgetGuest(seed: .now(), now: now.milliseconds)
        sendDue()
    }

    /// Gives the gateway another hardware address if the guest has the same one.
    ///
    /// Two hosts with the same address on one link cannot work. Some versions of libvirt give the guest's address as the
    /// gateway's. The address is changed once only, because a hostile guest could repeat the conflict for ever.
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
