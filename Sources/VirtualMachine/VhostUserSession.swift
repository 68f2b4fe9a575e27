// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// The state of a vhost-user connection, and the answers to its messages.
///
/// The value contains only numbers. Its owner reads messages, maps memory and stores descriptors once the value has
/// accepted a message, and closes the descriptors of a refused one.
public struct VhostUserSession: Sendable {
    /// Features of the device, by their bits.
    public enum Feature {
        /// The guest may leave checksums to the device (`VIRTIO_NET_F_CSUM`).
        public static let checksum: UInt64 = 1 << 0
        /// The device may leave checksums to the guest (`VIRTIO_NET_F_GUEST_CSUM`).
        public static let guestChecksum: UInt64 = 1 << 1
        /// The guest takes TCP super-frames (`VIRTIO_NET_F_GUEST_TSO4`, `VIRTIO_NET_F_GUEST_TSO6`).
        public static let guestTCPSegmentation: UInt64 = 1 << 7 | 1 << 8
        /// The guest may send TCP super-frames (`VIRTIO_NET_F_HOST_TSO4`, `VIRTIO_NET_F_HOST_TSO6`), also with ECN
        /// (`VIRTIO_NET_F_HOST_ECN`).
        public static let tcpSegmentation: UInt64 = 1 << 11 | 1 << 12 | 1 << 13
        /// Several buffers of the receive queue may hold one frame (`VIRTIO_NET_F_MRG_RXBUF`).
        public static let mergeableBuffers: UInt64 = 1 << 15
        /// The guest takes UDP super-frames (`VIRTIO_NET_F_GUEST_USO4`, `VIRTIO_NET_F_GUEST_USO6`).
        public static let guestUDPSegmentation: UInt64 = 1 << 54 | 1 << 55
        /// The guest may send UDP super-frames (`VIRTIO_NET_F_HOST_USO`).
        public static let udpSegmentation: UInt64 = 1 << 56
        /// The features of the protocol can be negotiated (`VHOST_USER_F_PROTOCOL_FEATURES`).
        public static let protocolFeatures: UInt64 = 1 << 30
        /// The device conforms to version 1 of the specification (`VIRTIO_F_VERSION_1`).
        public static let version1: UInt64 = 1 << 32

        /// What a network device of ours offers.
        public static let network =
            checksum | guestChecksum | guestTCPSegmentation | tcpSegmentation | guestUDPSegmentation | udpSegmentation
            | mergeableBuffers | protocolFeatures | version1
    }

    /// Features of the protocol, by their bits.
    public enum ProtocolFeature {
        /// Requests may ask for an acknowledgement (`VHOST_USER_PROTOCOL_F_REPLY_ACK`).
        public static let acknowledgements: UInt64 = 1 << 3
        /// The log comes as a descriptor (`VHOST_USER_PROTOCOL_F_LOG_SHMFD`).
        public static let logDescriptor: UInt64 = 1 << 1
    }

    /// The result of a message.
    public enum Verdict: Hashable, Sendable {
        /// It was accepted; the answer must be sent if there is one.
        case accepted(VhostUserAnswer?)
        /// It was refused. If there is no answer that reports this, the connection must end, because the sender assumes
        /// success.
        case refused(VhostUserAnswer?)
    }

    /// The settings of a ring.
    public struct Ring: Hashable, Sendable {
        /// The number of entries; 0 until it is set.
        public fileprivate(set) var size: UInt32 = 0
        /// Its addresses.
        public fileprivate(set) var addresses: VhostUserRingAddresses?
        /// The next available entry.
        public fileprivate(set) var base: UInt16 = 0
        /// Whether it was started (`SET_VRING_KICK`) and not stopped since (`GET_VRING_BASE`).
        public fileprivate(set) var isStarted = false
        /// Whether it is switched on.
        public fileprivate(set) var isEnabled = false

        /// Whether chains can be taken from it.
        public var isRunning: Bool { isStarted && isEnabled && size > 0 && addresses != nil }
    }

    /// The features that are offered.
    public let offered: UInt64
    /// The features of the protocol that are offered.
    public let offeredProtocol: UInt64
    /// The features in force.
    public private(set) var features: UInt64 = 0
    /// The features of the protocol in force.
    public private(set) var protocolFeatures: UInt64 = 0
    /// The regions of memory.
    public private(set) var regions: [VhostUserRegion] = []
    /// The rings.
    public private(set) var rings: [Ring]

    /// Begins a session.
    ///
    /// - Parameters:
    ///   - features: the features that are offered.
    ///   - protocolFeatures: the features of the protocol that are offered.
    ///   - rings: the number of rings, two for each pair of queues.
    public init(
        features: UInt64 = Feature.network,
        protocolFeatures: UInt64 = ProtocolFeature.acknowledgements, rings: Int = 2
    ) {
        precondition((1...256).contains(rings), "a message cannot name as many rings")
        offered = features
        offeredProtocol = protocolFeatures
        self.rings = Array(repeating: Ring(), count: rings)
    }

    /// Records the next entry of a ring, before ``handle(_:header:descriptors:)`` is called for a message that asks for
    /// it.
    ///
    /// - Parameters:
    ///   - base: the next available entry.
    ///   - ring: the ring.
    public mutating func note(base: UInt16, of ring: Int) { rings[ring].base = base }

    /// Carries out a message.
    ///
    /// - Parameters:
    ///   - message: the message.
    ///   - header: its header.
    ///   - descriptors: the number of descriptors that came with it.
    /// - Returns: Whether it was accepted, and the answer.
    public mutating func handle(_ message: VhostUserMessage, header: VhostUserHeader, descriptors: Int) -> Verdict {
        let acknowledges =
            header.needsReply && protocolFeatures & ProtocolFeature.acknowledgements != 0 && !message.hasAnswer
        guard descriptors == message.descriptorCount, let answer = carryOut(message, request: header.request) else {
            return .refused(acknowledges ? VhostUserAnswer(to: header.request, 1) : nil)
        }
        switch answer {
        case .nothing: return .accepted(acknowledges ? VhostUserAnswer(to: header.request, 0) : nil)
        case .answer(let answer): return .accepted(answer)
        }
    }

    private enum Outcome {
        case nothing
        case answer(VhostUserAnswer)
    }

    /// Changes the state; nil if the message is refused.
    private mutating func carryOut(_ message: VhostUserMessage, request: UInt32) -> Outcome? {
        switch message {
        case .getFeatures: return .answer(VhostUserAnswer(to: request, offered))
        case .setFeatures(let chosen):
            guard chosen & ~offered == 0 else { return nil }
            features = chosen
            // Without negotiation of protocol features, rings cannot be switched on, so they are on from the start.
            if chosen & Feature.protocolFeatures == 0 {
                for ring in rings.indices { rings[ring].isEnabled = true }
            }
        case .getProtocolFeatures: return .answer(VhostUserAnswer(to: request, offeredProtocol))
        case .setProtocolFeatures(let chosen):
            guard chosen & ~offeredProtocol == 0 else { return nil }
            protocolFeatures = chosen
        case .getQueueNumber: return .answer(VhostUserAnswer(to: request, UInt64(rings.count / 2)))
        case .setOwner: break
        case .resetOwner:
            self = VhostUserSession(features: offered, protocolFeatures: offeredProtocol, rings: rings.count)
        case .setMemoryTable(let table): regions = table
        case .setLogBase, .setLogDescriptor:
            guard protocolFeatures & ProtocolFeature.logDescriptor != 0 else { return nil }
            if case .setLogBase = message { return .answer(VhostUserAnswer(to: request, 0)) }
        case .unknown: return nil
        default: return carryOutForRing(message, request: request)
        }
        return .nothing
    }

    private mutating func carryOutForRing(_ message: VhostUserMessage, request: UInt32) -> Outcome? {
        switch message {
        case .setRingSize(let ring, let size):
            guard !rings[ring].isStarted else { return nil }
            rings[ring].size = size
        case .setRingAddresses(let ring, let addresses): rings[ring].addresses = addresses
        case .setRingBase(let ring, let base):
            guard !rings[ring].isStarted else { return nil }
            rings[ring].base = UInt16(truncatingIfNeeded: base)
        case .getRingBase(let ring):
            rings[ring].isStarted = false
            return .answer(VhostUserAnswer(to: request, ring: ring, base: rings[ring].base))
        case .setRingKick(let ring, let hasDescriptor):
            // Without a descriptor the ring would have to be polled.
            guard hasDescriptor else { return nil }
            rings[ring].isStarted = true
        case .setRingEnabled(let ring, let isOn):
            // QEMU before 7.2 uses the protocol's features, but does not choose that bit: rings are on then, and may be
            // switched all the same.
            rings[ring].isEnabled = isOn
        default: break
        }
        return .nothing
    }
}
