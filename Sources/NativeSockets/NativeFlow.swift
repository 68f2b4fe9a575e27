// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// syscalls: running(native-sockets): getsockopt

internal import CLinux
internal import Glibc
package import JSON
package import LinuxSystem
internal import NetworkTypes

/// A connection of the command by a socket of the host, for the control socket.
package struct NativeFlow: Hashable, Sendable {
    /// The kernel's number of the socket.
    package var cookie: UInt64
    /// The end as the namespace sees it.
    package var guest: Endpoint
    /// The other end.
    package var remote: Endpoint
    /// The end as the host sees it.
    package var host: Endpoint
    /// Whether it is still connecting.
    package var isConnecting: Bool
    /// How long it has existed, in nanoseconds.
    package var age: Int64
    /// Bytes that the other end has acknowledged.
    package var sent: UInt64
    /// Bytes that were received.
    package var received: UInt64

    /// The flow as a message to the engine.
    var json: JSONValue {
        [
            "cookie": .string(String(cookie)), "guest": Self.json(guest), "remote": Self.json(remote),
            "host": Self.json(host), "connecting": .bool(isConnecting), "age": JSONValue(age), "sent": JSONValue(sent),
            "received": JSONValue(received),
        ]
    }

    /// Reads a message of the supervisor.
    package init?(_ json: JSONValue) {
        guard let cookie = json["cookie"]?.string.flatMap({ UInt64($0) }),
            let guest = json["guest"].flatMap(Self.endpoint),
            let remote = json["remote"].flatMap(Self.endpoint), let host = json["host"].flatMap(Self.endpoint)
        else { return nil }
        (self.cookie, self.guest, self.remote, self.host) = (cookie, guest, remote, host)
        isConnecting = json["connecting"]?.bool ?? false
        age = json["age"]?.integer ?? 0
        sent = UInt64(clamping: json["sent"]?.integer ?? 0)
        received = UInt64(clamping: json["received"]?.integer ?? 0)
    }

    /// Describes a socket; nil if it is not connected.
    init?(_ socket: borrowing CallerSocket, _ record: SwitchedSocket?, _ settings: NativeSettings) {
        guard var local = HostSocket.localEndpoint(socket.number), local.port != 0,
            let remote = HostSocket.peerEndpoint(socket.number) ?? record?.remote
        else { return nil }
        cookie = socket.cookie
        host = local
        local.address = settings.shownAddress(of: IPAddress(unmapping: local.address)).asIPv6
        guest = local
        self.remote = remote
        // struct tcp_info of linux/tcp.h, up to tcpi_bytes_received; the C library's is shorter.
        var info = [UInt64](repeating: 0, count: 17)
        var length = socklen_t(info.count * MemoryLayout<UInt64>.size)
        _ = unsafe getsockopt(socket.number, CInt(IPPROTO_TCP), TCP_INFO, &info, &length)
        isConnecting = socket.state == 2
        (sent, received) = (info[15], info[16])
        age = record.map { max(MonotonicTime.now.nanoseconds - $0.opened.nanoseconds, 0) } ?? 0
    }

    private static func json(_ endpoint: Endpoint) -> JSONValue {
        ["address": .string("\(IPAddress(unmapping: endpoint.address))"), "port": JSONValue(endpoint.port)]
    }

    private static func endpoint(_ json: JSONValue) -> Endpoint? {
        guard let address = json["address"]?.string.flatMap({ IPAddress($0) }),
            let port = json["port"]?.integer.flatMap({ UInt16(exactly: $0) })
        else { return nil }
        return Endpoint(address: address.asIPv6, port: port)
    }
}

extension Supervisor {
    /// Answers the engine: lists the sockets that the command has, or ends some of them.
    ///
    /// - Parameters:
    ///   - number: the number of the question.
    ///   - ended: the sockets to end, by the kernel's numbers; nil to list.
    func answer(question number: Int64, ending ended: Set<UInt64>?) {
        var flows: [UInt64: JSONValue] = [:]
        var count: Int64 = 0
        forEachHeldSocket { socket in
            let cookie = socket.cookie
            guard let ended else {
                if let flow = NativeFlow(socket, switched.all[cookie], settings) { flows[cookie] = flow.json }
                return
            }
            guard ended.contains(cookie), switched.all[cookie] != nil else { return }
            if end(socket) { count += 1 }
        }
        var rest = Array(flows.values)[...]
        while !rest.isEmpty {
            tell(["question": JSONValue(number), "flows": .array(Array(rest.prefix(500)))])
            rest = rest.dropFirst(500)
        }
        tell(["question": JSONValue(number), "done": JSONValue(count)])
    }
}
