// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import NetworkModel
import NetworkTypes
import Planning
import Testing

@Suite("dump") struct D {
    @Test func dump() {
        let host = Host(
            "link w", "addr 192.0.2.10/24 dev w brd 192.0.2.255",
            "route default via 192.0.2.1 dev w proto dhcp src 192.0.2.10 metric 600", "addr 2001:db8:1::10/64 dev w",
            "addr fe80::10/64 dev w", "route default via fe80::1 dev w proto ra metric 1024",
            "dns 192.0.2.53 127.0.0.53")
        var c = Configuration(); c.configuresNamespace = true
        let p = plan(host.taken(), c, namespaceFamilies: [.v4, .v6])
        print(p.canonicalText)
        for r in p.reasons { print(" -", r) }
        for o in diff(applied: AppliedState(), plan: p) { print(" *", o.text(device: "w")) }
        let s = apply(diff(applied: AppliedState(), plan: p), to: AppliedState())
        print(s.canonicalText(device: "w"))
        let p2 = plan(HostSnapshot(), c, previous: p, namespaceFamilies: [.v4, .v6])
        print(p2.canonicalText)
        for r in p2.reasons { print(" -", r) }
        for o in diff(applied: s, plan: p2) { print(" *", o.text(device: "w")) }
    }
}
