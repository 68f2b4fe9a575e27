// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem

/// What has been asked of the host's resolvers through the address of `--dns-forward`, and what came of it.
public struct DNSStatistics: Hashable, Sendable {
    /// What is counted of one server.
    public struct Server: Hashable, Sendable {
        /// Its address and port.
        public var endpoint: Endpoint
        /// Questions that were sent to it.
        public var questions: UInt64 = 0
        /// Answers that came from it.
        public var answers: UInt64 = 0
        /// When it last answered, in nanoseconds of the monotonic clock; nil if it has not.
        public var lastAnswer: Int64?
    }

    /// Queries of the namespace over UDP, each time that one was sent.
    public var queries: UInt64 = 0
    /// Answers that were given to it.
    public var answers: UInt64 = 0
    /// Queries that nobody has answered, or that there was no server for: the namespace was told SERVFAIL.
    public var failures: UInt64 = 0
    /// Datagrams that no query had asked for.
    public var unexpected: UInt64 = 0
    /// Connections to resolvers that the namespace has opened.
    public var streams: UInt64 = 0
    /// The server that has answered last.
    public private(set) var lastToAnswer: Endpoint?
    /// The servers that were asked, of those there are now; the one asked first comes first.
    public private(set) var servers: [Server] = []

    /// Servers that are remembered at most: those of resolv.conf are few.
    private static let most = 16

    init() {}

    /// Counts a question.
    ///
    /// - Parameters:
    ///   - server: whom it was sent to.
    ///   - present: the servers that there are; others are forgotten.
    mutating func countQuestion(to server: Endpoint, among present: [Endpoint]) {
        if let index = servers.firstIndex(where: { $0.endpoint == server }) {
            servers[index].questions &+= 1
            return
        }
        servers.removeAll { !present.contains($0.endpoint) }
        guard servers.count < Self.most else { return }
        servers.append(Server(endpoint: server, questions: 1))
    }

    /// Counts an answer to a query.
    mutating func countAnswer(from server: Endpoint, at now: Int64) {
        answers &+= 1
        lastToAnswer = server
        guard let index = servers.firstIndex(where: { $0.endpoint == server }) else { return }
        servers[index].answers &+= 1
        servers[index].lastAnswer = now
    }
}
