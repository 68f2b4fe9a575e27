// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
//
// The engine's side of `--persist`; Supervisor.swift has the theory of operation.
//
// syscalls: setup(main): close fcntl
// syscalls: running(ports): close

internal import Glibc
internal import LinuxSystem
internal import NetworkModel
internal import PortForwarding
internal import Sandbox
internal import Synchronization
internal import SystemPackage

/// What an engine has of its supervisor: descriptors by name, what its predecessor has left, and the channel.
final class Handover: Sendable {
    /// The names of descriptors.
    enum Name {
        static let network = "network"
        static let device = "device"
        static let tap = "tap"
        static let log = "log"
        static let capture = "capture"
        static let flowLog = "flow-log"
        static let learned = "learned"
        static let control = "control"
        static let upstreamControl = "upstream-control"
        static let forwards = ["forwards.0", "forwards.1"]
        static let ownership = ["ownership.0", "ownership.1"]
        static let egress = ["egress.0", "egress.1"]
        static let listeners = "listen/"
    }

    /// The variable of the environment that names the channel's descriptor.
    static let variable = "TAPAS_SUPERVISOR"
    /// The channel's descriptor.
    static let channelNumber: CInt = 3

    private struct State {
        var given: [String: FileDescriptor] = [:]
        /// The names of listening sockets that the supervisor has.
        var listeners: Set<String> = []
    }

    private let channel: HandoverChannel
    private let state: Mutex<State>
    /// The number of restarts before this engine.
    let restarts: UInt32
    /// The supervisor's process id, which is the instance's.
    let instance: Int32
    /// Why there was a restart; empty for the first engine.
    let cause: String
    private let forwards: StateFile
    private let ownership: StateFile
    private let egress: StateFile

    /// Receives what the supervisor has; nil if the program was not started by one.
    ///
    /// - Throws: If the supervisor ends meanwhile, or has not all that is needed.
    init?() throws(Failure) {
        guard let value = unsafe getenv(Self.variable), unsafe String(cString: value) == "\(Self.channelNumber)" else {
            return nil
        }
        unsafe unsetenv(Self.variable)
        guard HostSocket.get(Self.channelNumber, SOL_SOCKET, SO_TYPE) == CInt(SOCK_SEQPACKET.rawValue) else {
            return nil
        }
        _ = fcntl(Self.channelNumber, F_SETFD, FD_CLOEXEC)
        InheritedDescriptors.closeAll(keeping: [FileDescriptor(rawValue: Self.channelNumber)])
        channel = HandoverChannel(OwnedFileDescriptor(taking: Self.channelNumber))
        var state = State()
        let begin: (UInt32, Int32, String)
        receiving: while true {
            guard channel.wait(milliseconds: 10_000) else { throw Failure("the supervisor says nothing") }
            switch channel.receive() {
            case .message(.given(let name), let descriptor?):
                state.given[name] = descriptor
                if name.hasPrefix(Name.listeners) { state.listeners.insert(name) }
            case .message(.begin(let restarts, let instance, let cause), nil):
                begin = (restarts, instance, cause)
                break receiving
            case .ended: throw Failure("the supervisor has ended")
            case .message, .nonsense, .nothing: continue
            }
        }
        (restarts, instance, cause) = begin
        forwards = try Self.file(Name.forwards, &state)
        ownership = try Self.file(Name.ownership, &state)
        egress = try Self.file(Name.egress, &state)
        self.state = Mutex(state)
    }

    private static func file(_ names: [String], _ state: inout State) throws(Failure) -> StateFile {
        guard let first = state.given.removeValue(forKey: names[0]),
            let second = state.given.removeValue(forKey: names[1])
        else { throw Failure("the supervisor has not sent all that is needed") }
        return StateFile(OwnedFileDescriptor(taking: first), OwnedFileDescriptor(taking: second))
    }

    /// The channel's descriptor, lent: its other end closes when this engine must end.
    var descriptor: FileDescriptor { channel.descriptor }
    /// Whether there was an engine before this one.
    var isRestart: Bool { restarts > 0 }

    /// Takes the descriptor of a name, which the caller owns from now on; nil if there is none.
    func take(_ name: String) -> OwnedFileDescriptor? {
        state.withLock { $0.given.removeValue(forKey: name) }.map { OwnedFileDescriptor(taking: $0) }
    }

    /// Has the supervisor keep the tap for successors.
    ///
    /// - Throws: The error of sendmsg(2).
    func keep(tap: FileDescriptor) throws(SystemCallError) {
        try channel.send(.keep(Name.tap), with: tap)
        try channel.send(.release(Name.device))
    }

    /// Reports that the namespace is connected.
    ///
    /// - Throws: If the supervisor has ended.
    func reportReady() throws(Failure) {
        do throws(SystemCallError) {
            try channel.send(.ready)
        } catch {
            throw Failure("the supervisor has ended", error)
        }
    }

    /// Reports an orderly end, which ends the program.
    func reportEnd(_ status: Int32) { try? channel.send(.ended(status)) }

    /// Asks to be replaced by the program that is at this program's path now.
    ///
    /// - Throws: If the supervisor has ended.
    func requestUpgrade() throws(SystemCallError) { try channel.send(.upgrade) }

    /// What the supervisor says while the engine runs: why a request was refused.
    func nextRefusal() -> String? {
        if case .message(.refused(let text), _) = channel.receive() { text } else { nil }
    }

    // MARK: State

    /// The rules that the predecessor had changed while it ran; nil if they are those of the command line.
    var changedForwards: [PortForward]? { forwards.read().flatMap { KeptRules.read($0) } }

    /// The rules on what may leave that clients have added, as lines of a file of rules; none if there never were any.
    var addedEgressRules: [UInt8] { egress.read() ?? [] }

    /// Records the rules on what may leave that clients have added.
    func record(addedEgressRules text: String) { egress.write(Array(text.utf8)) }

    /// The fingerprints of what of the namespace's configuration is ours.
    var ownedFingerprints: Set<UInt64> {
        guard let bytes = ownership.read() else { return [] }
        return Set(
            stride(from: 0, to: bytes.count / 8 * 8, by: 8).map { start in
                bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
            })
    }

    /// Records what of the namespace's configuration is ours.
    func record(_ ownership: AppliedState.Ownership) {
        var bytes: [UInt8] = []
        let fingerprints = ownership.fingerprints
        bytes.reserveCapacity(8 * fingerprints.count)
        for value in fingerprints {
            for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * shift))) }
        }
        self.ownership.write(bytes)
    }
}

extension Handover: ListenerKeeper {
    var listenerNames: [String] {
        state.withLock { state in state.given.keys.filter { $0.hasPrefix(Name.listeners) } }
    }

    func takeListener(_ name: String) -> FileDescriptor? {
        state.withLock { $0.given.removeValue(forKey: name) }
    }

    func keepListener(_ name: String, _ socket: FileDescriptor) {
        guard state.withLock({ $0.listeners.insert(name).inserted }) else { return }
        // If the supervisor has ended, this process is about to end, too.
        try? channel.send(.keep(name), with: socket)
    }

    func releaseListener(_ name: String) {
        guard state.withLock({ $0.listeners.remove(name) }) != nil else { return }
        try? channel.send(.release(name))
    }

    func releaseOtherListeners() {
        for name in listenerNames {
            if let socket = takeListener(name) { HostSocket.close(socket.rawValue) }
            releaseListener(name)
        }
    }

    func rulesDidChange(_ forwards: [PortForward]) { self.forwards.write(KeptRules.bytes(forwards)) }
}
