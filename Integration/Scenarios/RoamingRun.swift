// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

import Lab
import Testing

/// A row being run.
struct RoamingRun {
    /// `--dns-forward`.
    static let nameServer = "169.254.1.1"
    /// `--map-guest-addr`.
    static let mappedHost = "169.254.1.2"
    /// How long a change may take to arrive, hold-down included.
    static let patience = Duration.seconds(6)

    let net: Roaming
    let row: RoamingCase
    private var engine: Engine?
    /// How the server sees each open flow.
    private var peers: [String: String] = [:]
    private var listening: Set<String> = []
    private var nestedAgent: Agent?
    /// How much tapas had written when it was ready.
    private var writtenAtStart = 0

    private init(_ row: RoamingCase, in lab: Lab) async throws {
        net = try await Roaming(in: lab)
        self.row = row
    }

    private var options: [String] {
        let forwards = row.options.contains { ["-t", "-u"].contains($0) } ? [] : ["-t", "none", "-u", "none"]
        let debug = environmentVariable("TAPAS_ROAMING_DEBUG") == nil ? [] : ["--debug"]
        return RoamingCase.commonOptions + forwards + ["-T", "none", "-U", "none"] + row.options + debug
    }

    /// The options of a fresh start beside the one that follows: no port of the host twice.
    private var freshOptions: [String] {
        var rest: [String] = []
        var skips = false
        for option in RoamingCase.commonOptions + row.options {
            if !skips, option != "-t", option != "-u" { rest.append(option) }
            skips = !skips && (option == "-t" || option == "-u")
        }
        return rest + ["-t", "none", "-u", "none", "-T", "none", "-U", "none"]
    }

    /// Runs a row from start to end.
    ///
    /// - Throws: `LabError` that names the step that failed.
    static func run(_ row: RoamingCase) async throws {
        try await withLab { lab in
            var run = try await RoamingRun(row, in: lab)
            for step in row.start { try await run.take(step) }
            let engine = try await run.net.attach(run.options)
            run.engine = engine
            run.writtenAtStart = engine.program.errors.count
            for (number, step) in row.steps.enumerated() {
                do {
                    try await run.take(step)
                } catch {
                    throw LabError("row \(row.row), step \(number + 1), \(step):\n\(error)")
                }
                if let ending = run.engine?.program.termination {
                    throw LabError("row \(row.row), step \(number + 1), \(step): tapas: \(ending)")
                }
            }
        }
    }

    private mutating func take(_ step: Step) async throws {
        switch step {
        case .host(let lines): try await net.change(lines)
        case .internet(let lines): try await net.internet.ip(lines)
        case .shell(let script):
            let text = script.replacing("@internet@", with: "\(net.internet.processID)")
            try await net.host.must(["sh", "-ec", text])
        case .internetShell(let script): try await net.internet.must(["sh", "-ec", script])
        case .inside(let script): try await net.guest.must(["sh", "-ec", script])
        case .resolvers(let servers): try await rename(servers.words)
        case .passes(let milliseconds): try await Task.sleep(for: .milliseconds(milliseconds))
        case .becomes(let lines): try await becomes(lines)
        case .follows: try await follows()
        case .quiet(let steps): try await quietly(steps)
        case .never(let text, let steps): try await never(text, steps)
        case .open(let flows): for flow in flows.words { try await open(flow, flow.beyond) }
        case .openTo(let flows, let address): for flow in flows.words { try await open(flow, address) }
        case .hostListens(let kinds, let address): for kind in kinds.words { try await hostListens(kind, address) }
        case .kept(let flows): for flow in flows.words { try await kept(flow) }
        case .reset(let flows): for flow in flows.words { try await reset(flow) }
        case .ended(let flows): for flow in flows.words { try await ended(flow) }
        case .stranded(let flows): for flow in flows.words { try await stranded(flow) }
        case .moved(let flows, let address): for flow in flows.words { try await moved(flow, address) }
        case .reaches(let kinds): for kind in kinds.words { try await reaches(kind, kind.beyond) }
        case .reachesAt(let kinds, let address): for kind in kinds.words { try await reaches(kind, address) }
        case .fails(let kinds): for kind in kinds.words { try await fails(kind) }
        case .seenAs(let address): try await seen(as: address)
        case .answeredBy(let server): try await answered(by: server)
        case .unanswered: try await unanswered(within: 0.5)
        case .findsHost(let address): try await findsHost(address)
        case .serves(let kinds, let address, let port):
            for kind in kinds.words { try await serves(kind, address, port) }
        case .unserved(let kinds, let address, let port):
            for kind in kinds.words { try await unserved(kind, address, port) }
        case .connectsMeanwhile(let kind, let steps): try await connectsMeanwhile(kind, steps)
        case .answeredSoonBy(let server): try await answeredSoon(by: server)
        case .answeredInFlight(let server, let steps): try await answeredInFlight(by: server, steps)
        case .unansweredSoon: try await unanswered(within: 2.5)
        case .listenDNS(let address):
            for kind in ["udp", "tcp"] { try await net.inHost.ask("listen", kind, address, "53") }
        case .has(let lines): try await has(lines)
        case .fetching(let steps): try await fetching(steps)
        case .reachesFrom(let addresses): try await reachesFrom(addresses.words)
        case .otherInternet: try await otherInternet()
        case .nested: try await nest()
        case .nestedBecomes(let lines): try await nestedBecomes(lines)
        case .wroteAtMost(let lines):
            let written = (engine?.program.errors ?? "").dropFirst(writtenAtStart)
            guard written.split(separator: "\n").count <= lines else { throw LabError("it wrote:\n\(written)") }
        }
    }

    // MARK: - The namespace

    private func rename(_ servers: [String]) async throws {
        let text = servers.map { "nameserver \($0)\\n" }.joined()
        try await net.host.must([
            "sh", "-ec", "printf '\(text)' > /etc/resolv.new; mv /etc/resolv.new /etc/resolv.conf",
        ])
    }

    private func becomes(_ lines: [String]) async throws {
        let wanted = (["link \(row.interface) mtu 65520 up"] + lines).sorted()
        try await settles(on: wanted, "what the row says")
        try await follows()
    }

    private func follows() async throws {
        // The kernel takes up to a second to announce a carrier's change: a fresh start may have come before that.
        for turn in 1...3 {
            let fresh = try await net.fresh(freshOptions).map { line in
                // The name is chosen once; a fresh start chooses anew.
                line.hasPrefix("link ") ? line.replacingWord(1, by: row.interface) : line
            }
            do {
                return try await settles(on: fresh, "what a fresh start gives", within: .seconds(3))
            } catch {
                if turn == 3 { throw error }
            }
        }
    }

    private func settles(
        on wanted: [String], _ what: String, within limit: Duration = patience
    ) async throws {
        var got: [String] = []
        do {
            try await eventually("the namespace is \(what)", within: limit) {
                let answer = try await net.inGuest.ask("state")
                let wasWanted: [String]
                (got, wasWanted) = RoamingState.lasting(answer.split(separator: "\n").map(String.init), wanted)
                return got == wasWanted
            }
        } catch {
            throw LabError("\(error)\n\(difference(got, wanted))\nthe namespace:\n\(got.joined(separator: "\n"))")
        }
    }

    private func has(_ lines: [String]) async throws {
        var state: [String] = []
        do {
            try await eventually("the namespace has \(lines)", within: Self.patience) {
                state = try await net.inGuest.ask("state").lines
                return lines.allSatisfy { state.contains($0) }
            }
        } catch {
            throw LabError("\(error)\nthe namespace:\n\(state.joined(separator: "\n"))")
        }
    }

    private mutating func nest() async throws {
        let inner = try await net.host.lab.host("inner")
        try await net.guest.attach(inner)
        nestedAgent = try await inner.agent()
    }

    private func nestedBecomes(_ lines: [String]) async throws {
        guard let nestedAgent else { return }
        let wanted = (["link \(row.interface) mtu 65520 up"] + lines).sorted()
        var state: [String] = []
        do {
            try await eventually("the inner namespace follows", within: Self.patience) {
                state = try await nestedAgent.ask("state").lines.sorted()
                return state == wanted
            }
        } catch {
            throw LabError("\(error)\n\(difference(state, wanted))")
        }
    }

    private func otherInternet() async throws {
        let cafe = try await net.host.lab.host("cafe")
        try await net.internet.ip("link set wlan0 netns \(cafe.processID)")
        try await cafe.ip(
            """
            address add 203.0.113.1/32 dev lo
            address add 2001:db8:f::1/128 dev lo nodad
            address add 192.0.2.1/24 dev wlan0
            address add 192.0.2.54/24 dev wlan0
            address add 2001:db8:1::1/64 dev wlan0 nodad
            link set wlan0 up
            """)
        _ = try await cafe.agent(serves: true)
    }

    private mutating func quietly(_ steps: [Step]) async throws {
        let before = try await net.inGuest.ask("state")
        try await net.inGuest.ask("mark")
        for step in steps { try await take(step) }
        // Longer than it takes to settle.
        try await Task.sleep(for: .milliseconds(600))
        let seen = try await net.inGuest.ask("seen")
        guard seen.isEmpty else { throw LabError("the namespace was changed: \(seen)") }
        let after = try await net.inGuest.ask("state")
        guard before == after else { throw LabError("before:\n\(before)\nafter:\n\(after)") }
    }

    private mutating func never(_ text: String, _ steps: [Step]) async throws {
        let agent = net.inGuest
        let watcher = Task {
            while !Task.isCancelled {
                let state = try await agent.ask("state")
                guard !state.contains(text) else { throw LabError("the namespace has \(text):\n\(state)") }
            }
        }
        var failure: (any Error)?
        do {
            for step in steps { try await take(step) }
        } catch {
            failure = error
        }
        watcher.cancel()
        // What was cancelled meanwhile says nothing.
        if case .failure(let error as LabError) = await watcher.result { throw error }
        if let failure { throw failure }
    }

    // MARK: - Flows

    private mutating func open(_ flow: String, _ address: String) async throws {
        let answer = try await net.inGuest.ask("open", flow, flow.kind, address)
        guard answer.hasPrefix("open ") else { throw LabError("\(flow): \(answer)") }
        peers[flow] = try await exchange(flow)
    }

    private func exchange(_ flow: String) async throws -> String {
        let answer = try await net.inGuest.ask("exchange", flow, "5")
        guard answer.words.count == 2 else { throw LabError("\(flow): \(answer)") }
        return answer
    }

    private func kept(_ flow: String) async throws {
        let peer = try await exchange(flow)
        guard peer == peers[flow] else { throw LabError("\(flow): was \(peers[flow] ?? "nothing"), is \(peer)") }
    }

    private func moved(_ flow: String, _ address: String) async throws {
        let peer = try await exchange(flow)
        guard peer.hasPrefix(address + " ") else { throw LabError("\(flow) comes from \(peer)") }
    }

    private func stranded(_ flow: String) async throws {
        let answer = try await net.inGuest.ask("exchange", flow, "1")
        guard answer.words.count == 1 else { throw LabError("\(flow): \(answer)") }
    }

    private func reset(_ flow: String) async throws {
        let answer = try await net.inGuest.ask("ending", flow, "5")
        guard answer == "ECONNRESET" else { throw LabError("\(flow): \(answer)") }
    }

    private func ended(_ flow: String) async throws {
        let answer = try await net.inGuest.ask("exchange", flow, "5")
        guard answer.words.count == 1, answer != "timeout" else { throw LabError("\(flow): \(answer)") }
    }

    private func reaches(_ kind: String, _ address: String) async throws {
        let answer = try await net.inGuest.ask("try", kind.kind, address, "3").lines
        guard answer[0].words.count == 2 else { throw LabError("\(kind) to \(address): \(answer)") }
    }

    private func fails(_ kind: String) async throws {
        let answer = try await net.inGuest.ask("try", kind.kind, kind.beyond, "3").lines
        guard answer[0].words.count == 1, answer[0] != "timeout", let seconds = Double(answer[1]), seconds < 1 else {
            throw LabError("\(kind): \(answer)")
        }
    }

    private mutating func connectsMeanwhile(_ kind: String, _ steps: [Step]) async throws {
        let agent = net.inGuest
        async let answer = agent.ask("try", kind.kind, kind.beyond, "15")
        try await Task.sleep(for: .milliseconds(200))
        for step in steps { try await take(step) }
        let start = ContinuousClock.now
        let result = try await answer
        let time = ContinuousClock.now - start
        guard result.lines[0].words.count == 2, time < .seconds(2) else {
            throw LabError("\(kind): \(result), \(time) after the change")
        }
    }

    private func seen(as address: String) async throws {
        let beyond = Roaming.beyond[address.contains(":") ? 1 : 0]
        let answer = try await net.inGuest.ask("try", "tcp", beyond, "3")
        guard answer.hasPrefix(address + " ") else { throw LabError("seen as \(answer)") }
    }

    private mutating func fetching(_ steps: [Step]) async throws {
        try await net.inGuest.ask("traffic", "begin", Roaming.beyond[0])
        for step in steps { try await take(step) }
        let count = try await net.inGuest.ask("traffic", "end")
        guard let exchanges = Int(count), exchanges > 0 else { throw LabError("nothing was fetched: \(count)") }
    }

    private func reachesFrom(_ addresses: [String]) async throws {
        let script = """
            import socket, sys
            for address in sys.argv[3:]:
                for kind in socket.SOCK_STREAM, socket.SOCK_DGRAM:
                    family = socket.AF_INET6 if ":" in address else socket.AF_INET
                    end = socket.socket(family, kind)
                    end.settimeout(3)
                    end.bind((address, 0))
                    end.connect((sys.argv[2 if ":" in address else 1], 7300))
                    end.send(b"token\\n")
                    assert end.recv(100), (address, kind)
            """
        try await net.guest.must(["python3", "-c", script] + Roaming.beyond + addresses)
    }

    // MARK: - Names

    private func answered(by server: String) async throws {
        for kind in ["udp", "tcp"] {
            let answer = try await net.inGuest.ask("dns", kind, Self.nameServer, "5").lines
            guard answer[0] == server, let seconds = Double(answer[1]), seconds < 2 else {
                throw LabError("\(kind): \(answer)")
            }
        }
    }

    private func answeredSoon(by server: String) async throws {
        var answer: [String] = []
        do {
            try await eventually("\(server) is asked", within: .milliseconds(1500)) {
                answer = try await net.inGuest.ask("dns", "udp", Self.nameServer, "5").lines
                return answer[0] == server
            }
        } catch {
            throw LabError("\(error): \(answer)")
        }
        try await answered(by: server)
    }

    private mutating func answeredInFlight(by server: String, _ steps: [Step]) async throws {
        let agent = net.inGuest
        async let answer = agent.ask("dns", "udp", Self.nameServer, "5")
        try await Task.sleep(for: .milliseconds(100))
        for step in steps { try await take(step) }
        let lines = try await answer.lines
        guard lines[0] == server else { throw LabError("\(lines)") }
    }

    private func unanswered(within limit: Double) async throws {
        for kind in ["udp", "tcp"] {
            let answer = try await net.inGuest.ask("dns", kind, Self.nameServer, "5").lines
            let isFailure = answer[0] == "RCODE 2" || kind == "tcp" && answer[0] == "ECONNREFUSED"
            guard isFailure, let seconds = Double(answer[1]), seconds < limit else {
                throw LabError("\(kind): \(answer)")
            }
        }
    }

    // MARK: - Ways in

    private mutating func findsHost(_ address: String) async throws {
        if listening.insert("host \(address)").inserted { try await hostListens("tcp", address) }
        let answer = try await net.inGuest.ask("try", "tcp", Self.mappedHost, "3").lines
        guard answer[0].hasPrefix(address + " ") else { throw LabError("the host at \(Self.mappedHost): \(answer)") }
    }

    private func hostListens(_ kind: String, _ address: String) async throws {
        let answer = try await net.inHost.ask("listen", kind.kind, address, "7300")
        guard answer == "listening" else { throw LabError("\(address): \(answer)") }
    }

    private mutating func serves(_ kind: String, _ address: String, _ port: Int) async throws {
        if listening.insert("\(kind) \(port)").inserted {
            let any = kind.isIPv6 ? "::" : "0.0.0.0"
            let answer = try await net.inGuest.ask("listen", kind.kind, any, "\(port)")
            guard answer == "listening" else { throw LabError("\(kind) \(port): \(answer)") }
        }
        let agent = address.hasPrefix("127.") || address == "::1" ? net.inHost : net.inInternet
        var answer: [String] = []
        do {
            try await eventually("\(kind) to \(address) port \(port) is served", within: .seconds(3)) {
                answer = try await agent.ask("try", kind.kind, address, "1", "\(port)").lines
                return answer[0].words.count == 2
            }
        } catch {
            throw LabError("\(error): \(answer)")
        }
    }

    private func unserved(_ kind: String, _ address: String, _ port: Int) async throws {
        let agent = address.hasPrefix("127.") || address == "::1" ? net.inHost : net.inInternet
        let answer = try await agent.ask("try", kind.kind, address, "0.5", "\(port)").lines
        guard answer[0].words.count == 1 else { throw LabError("\(kind) to \(address) port \(port): \(answer)") }
    }
}
