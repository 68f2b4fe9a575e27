// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import NetworkModel
public import NetworkTypes

extension TranslationRules.Family {
    /// Whether an address on the link is one that we speak from or that stands for something of the host.
    public func owns(_ address: IPAddress) -> Bool {
        address == ownAddress || address == gateway || address == hostLoopback || address == mappedGuestAddress
            || address == dnsForward
    }
}
