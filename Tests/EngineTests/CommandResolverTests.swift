// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Testing

@testable import Engine

@Suite("The resolv.conf of a command") struct CommandResolverTests {
    private static let head = "# Made by tapas for this command; --no-resolv-conf leaves the host's.\n"

    @Test("names the given addresses, and keeps what else the host's file says")
    func namesTheGivenAddresses() {
        let host = """
            # Generated
            ; remark
            nameserver 192.0.2.1
            \tnameserver 192.0.2.2
            search a.example b.example
            options edns0 trust-ad

            sortlist 192.0.2.0/24
            """
        let kept = "search a.example b.example\noptions edns0 trust-ad\nsortlist 192.0.2.0/24\n"
        #expect(
            CommandResolver.text(naming: ["169.254.1.1", "2001:db8::53"], search: nil, host: Array(host.utf8))
                == Self.head + "nameserver 169.254.1.1\nnameserver 2001:db8::53\n" + kept)
    }

    @Test("-S takes the place of the host's search list; none is a dot, lest the host name's domain be taken")
    func search() {
        let host = Array("domain a.example\nsearch b.example\noptions ndots:2".utf8)
        for (search, line) in [(["x.example", "y.example"], "search x.example y.example"), ([], "search .")] {
            #expect(
                CommandResolver.text(naming: ["169.254.1.1"], search: search, host: host)
                    == Self.head + "nameserver 169.254.1.1\n\(line)\noptions ndots:2\n")
        }
    }

    @Test(
        "an absent, empty or strange file of the host is no obstacle", arguments: [[], [0, 10, 255, 254], [10, 10]])
    func strangeFiles(host: [UInt8]) {
        let text = CommandResolver.text(naming: ["169.254.1.1"], search: nil, host: host)
        #expect(text.hasPrefix(Self.head + "nameserver 169.254.1.1\n") && !text.utf8.contains(0))
    }
}
