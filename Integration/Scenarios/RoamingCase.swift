// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// One event on the host or in the namespace, or one check.
///
/// Flows are named: the kind and the version of IP, and whatever tells two of them apart: `tcp4`, `udp6`, `tcp4.new`.
/// Several are given as words.
enum Step: Sendable {
    /// `ip` commands in the host, one a line, in one process: they settle together.
    case host(String)
    /// `ip` commands in the internet.
    case internet(String)
    /// A shell script in the host.
    case shell(String)
    /// A shell script in the namespace.
    case inside(String)
    /// resolv.conf of the host is replaced by one with these servers, by renaming.
    case resolvers(String)
    /// Time goes by, in milliseconds: between events that must not settle together, or to let a timer run out.
    case passes(Int)
    /// Opens flows to the server beyond.
    case open(String)
    /// Opens flows to an address.
    case openTo(String, String)
    /// The host has servers at an address of its own.
    case hostListens(String, at: String)
    /// The namespace gets exactly this state, apart from what existing flows still need, and a fresh start gives the
    /// same.
    case becomes([String])
    /// The namespace gets the state that a fresh start would give it.
    case follows
    /// Nothing is written in the namespace while these steps are done and settle.
    case quiet([Step])
    /// At no time while these steps are done does the namespace have a line that contains the text.
    case never(String, [Step])
    /// The flows go on, and the server sees no difference.
    case kept(String)
    /// The flows were reset without having sent anything.
    case reset(String)
    /// The flows have ended, by a reset or when they send.
    case ended(String)
    /// The flows go on, and the server sees them come from this address.
    case moved(String, to: String)
    /// The datagram flows no longer work, because their address in the namespace is gone.
    case stranded(String)
    /// New flows to the server beyond get through: `tcp4 udp4 tcp6 udp6`.
    case reaches(String)
    /// New flows to an address get through.
    case reachesAt(String, String)
    /// New flows to the server beyond fail within a second.
    case fails(String)
    /// The server beyond sees a new TCP flow come from this address.
    case seenAs(String)
    /// Questions to the forward address are answered within two seconds, over UDP and TCP, by this server.
    case answeredBy(String)
    /// Questions to the forward address fail at once: SERVFAIL over UDP, over TCP that or no connection.
    case unanswered
    /// `--map-guest-addr` leads to the host at this address, which has a server of its own.
    case findsHost(String)
    /// What comes from the internet to an address and port of the host reaches the namespace: `tcp4`, `udp4`.
    case serves(String, at: String, port: Int)
    /// Nobody is there at an address and port of the host.
    case unserved(String, at: String, port: Int)
    /// A TCP connection that is begun before these steps is there within two seconds of their end.
    case connectsMeanwhile(String, [Step])
    /// Queries are answered by this server within a second and a half.
    case answeredSoonBy(String)
    /// A question asked before these steps is answered by this server.
    case answeredInFlight(by: String, [Step])
    /// Questions fail, within two seconds and a half.
    case unansweredSoon
    /// The host has a name server at an address of its own, as a stub resolver is.
    case listenDNS(String)
    /// The namespace comes to have these among others.
    case has([String])
    /// Programs in the namespace fetch from the server beyond over and over while these steps are done, and get something.
    case fetching([Step])
    /// TCP and UDP get through to the server beyond from each of these addresses of the namespace.
    case reachesFrom(String)
    /// A shell script in the internet.
    case internetShell(String)
    /// The Wi-Fi's cable leads to another internet, with the same addresses.
    case otherInternet
    /// A tapas in the namespace gives its network to another namespace.
    case nested
    /// That one comes to have exactly this.
    case nestedBecomes([String])
    /// The program has not written more than this to standard error since it was ready.
    case wroteAtMost(lines: Int)
}

/// A row of the table of roaming scenarios.
struct RoamingCase: Sendable, CustomTestStringConvertible {
    /// The number of the scenario, with a letter if it has several cases.
    let row: String
    /// What happens, in words.
    let name: String
    /// The name that the interface is given at the start and keeps.
    var interface = "wlan0"
    /// Options besides those that all have.
    var options: [String] = []
    /// Before tapas starts.
    var start: [Step] = []
    /// From then on.
    let steps: [Step]

    var testDescription: String { "\(row): \(name)" }

    /// A constant name server, the host's own address, and a short hold-down.
    ///
    /// Port forwards only where a row has some.
    static let commonOptions = [
        "--dns-forward", RoamingRun.nameServer, "--map-guest-addr", RoamingRun.mappedHost, "--hold-down", "1",
    ]
}
