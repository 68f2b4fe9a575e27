// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

internal import NetworkModel
internal import NetworkTypes

extension LinkChange {
    /// The change as `ip link set` takes it, with the link by index.
    func text(_ index: InterfaceIndex) -> String {
        var words = ["link", "set", "dev", "\(index)"]
        if let isUp { words.append(isUp ? "up" : "down") }
        if let isWithoutARP { words += ["arp", isWithoutARP ? "off" : "on"] }
        if let mtu { words += ["mtu", "\(mtu)"] }
        if let mac { words += ["address", "\(mac)"] }
        if let name { words += ["name", name] }
        if let transmitQueueLength { words += ["txqueuelen", "\(transmitQueueLength)"] }
        if let addressGeneration { words += ["addrgenmode", "\(addressGeneration)"] }
        return words.joined(separator: " ")
    }
}
