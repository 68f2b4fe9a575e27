// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

public import LinuxSystem

/// Counts of the queries to the host's resolvers through the address of `--dns-forward`, and of their answers.
public struct DNSStatistics: Hashable, Sendable {
    /// The counts of one server.
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

    /// Queries of the namespace over UDP; a repeated query counts again.
    public var queries: UInt64 = 0
    /// Answers that were sent to the namespace.
    public var answers: UInt64 = 0
    /// Queries without an answer or without a server; the namespace received SERVFAIL.
    public var failures: UInt64 = 0
    /// Queries that the rules on what may leave deny, and answers that they withhold.
    public var refusals: UInt64 = 0
    /// Datagrams that no query had asked for.
    public var unexpected: UInt64 = 0
    /// Connections to resolvers that the namespace has opened.
    public var streams: UInt64 = 0
    /// The server that sent the latest answer.
    public private(set) var lastToAnswer: Endpoint?
    /// The present servers that were asked, in the order in which they were first asked.
    public private(set) var servers: [Server] = []

    /// The greatest number of servers that are counted; resolv.conf lists only a few.
    private static let most = 16

    init() {}

    /// Counts a question.
    ///
    /// - Parameters:
    ///   - server: the server that it was sent to.
    ///   - present: the present servers; the counts of others are removed.
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
