// Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0

/// Frames of Linux 6.18 between two network namespaces joined by a veth pair with transmit checksums off, captured
/// on a packet socket: 192.0.2.1, 2001:db8::1 and 02:00:00:00:00:0a against .2, ::2 and ..:0b.

extension Capture {
    /// ARP request.
    public static let arpRequest = Capture(
        "ARP request",
        """
        ffff ffff ffff 0200 0000 000a 0806  // Ethernet
        0001 0800 0604 0001 0200 0000 000a c000 0201 0000 0000 0000 c000 0202  // ARP
        """)

    /// ARP reply.
    public static let arpReply = Capture(
        "ARP reply",
        """
        0200 0000 000a 0200 0000 000b 0806  // Ethernet
        0001 0800 0604 0002 0200 0000 000b c000 0202 0200 0000 000a c000 0201  // ARP
        """)

    /// ICMP echo request.
    public static let echoRequest4 = Capture(
        "ICMP echo request",
        """
        0200 0000 000b 0200 0000 000a 0800  // Ethernet
        4500 0034 8710 4000 4001 2fb5 c000 0201 c000 0202  // IPv4
        0800 01b3 21b2 0001  // ICMP
        441f 016b 0000 0000 3cbf 0600 0000 0000 1011 1213 1415 1617  // body
        """)

    /// ICMP echo reply.
    public static let echoReply4 = Capture(
        "ICMP echo reply",
        """
        0200 0000 000a 0200 0000 000b 0800  // Ethernet
        4500 0034 39ce 0000 4001 bcf7 c000 0202 c000 0201  // IPv4
        0000 09b3 21b2 0001  // ICMP
        441f 016b 0000 0000 3cbf 0600 0000 0000 1011 1213 1415 1617  // body
        """)

    /// ICMPv6 echo request.
    public static let echoRequest6 = Capture(
        "ICMPv6 echo request",
        """
        0200 0000 000b 0200 0000 000a 86dd  // Ethernet
        600e bebb 0020 3a40 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0002
        8000 51de 21b3 0001  // ICMPv6
        441f 016b 0000 0000 18c3 0600 0000 0000 1011 1213 1415 1617  // body
        """)

    /// ICMPv6 echo reply.
    public static let echoReply6 = Capture(
        "ICMPv6 echo reply",
        """
        0200 0000 000a 0200 0000 000b 86dd  // Ethernet
        600c 9f49 0020 3a40 2001 0db8 0000 0000 0000 0000 0000 0002 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0001
        8100 50de 21b3 0001  // ICMPv6
        441f 016b 0000 0000 18c3 0600 0000 0000 1011 1213 1415 1617  // body
        """)

    /// Last IPv4 fragment.
    public static let laterFragment4 = Capture(
        "last IPv4 fragment",
        """
        0200 0000 000b 0200 0000 000a 0800  // Ethernet
        4500 001c 8711 00b9 4001 6f13 c000 0201 c000 0202  // IPv4
        c0c1 c2c3 c4c5 c6c7  // fragment
        """)

    /// Last IPv6 fragment.
    public static let laterFragment6 = Capture(
        "last IPv6 fragment",
        """
        0200 0000 000b 0200 0000 000a 86dd  // Ethernet
        600e bebb 0018 2c40 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0002
        3a00 05a8 f235 e1e1  // fragment header
        a0a1 a2a3 a4a5 a6a7 a8a9 aaab acad aeaf  // fragment
        """)

    /// TCP SYN over IPv4.
    public static let tcpSYN4 = Capture(
        "TCP SYN over IPv4",
        """
        0200 0000 000b 0200 0000 000a 0800  // Ethernet
        4500 003c 82bd 4000 4006 33fb c000 0201 c000 0202  // IPv4
        e2de 0050 1fba 3450 0000 0000 a002 faf0 6f12 0000 0204 05b4 0402 080a 005f 225e  // TCP
        0000 0000 0103 030a
        """)

    /// TCP SYN-ACK over IPv4.
    public static let tcpSYNACK4 = Capture(
        "TCP SYN-ACK over IPv4",
        """
        0200 0000 000a 0200 0000 000b 0800  // Ethernet
        4500 003c 0000 4000 4006 b6b8 c000 0202 c000 0201  // IPv4
        0050 e2de b252 0971 1fba 3451 a012 fe88 0d47 0000 0204 05b4 0402 080a d4c5 cd98  // TCP
        005f 225e 0103 030a
        """)

    /// TCP data over IPv4.
    public static let tcpData4 = Capture(
        "TCP data over IPv4",
        """
        0200 0000 000a 0200 0000 000b 0800  // Ethernet
        4500 003a af4a 4000 4006 0770 c000 0202 c000 0201  // IPv4
        0050 e2de b252 0972 1fba 3451 8018 0040 f672 0000 0101 080a d4c5 cd99 005f 225f  // TCP
        6865 6c6c 6f0a  // payload
        """)

    /// TCP FIN over IPv4.
    public static let tcpFIN4 = Capture(
        "TCP FIN over IPv4",
        """
        0200 0000 000a 0200 0000 000b 0800  // Ethernet
        4500 0034 af4b 4000 4006 0775 c000 0202 c000 0201  // IPv4
        0050 e2de b252 0978 1fba 3451 8011 0040 3a56 0000 0101 080a d4c5 cd99 005f 225f  // TCP
        """)

    /// TCP reset over IPv4.
    public static let tcpReset4 = Capture(
        "TCP reset over IPv4",
        """
        0200 0000 000a 0200 0000 000b 0800  // Ethernet
        4500 0028 0000 4000 4006 b6cc c000 0202 c000 0201  // IPv4
        0051 ecae 0000 0000 1a58 7c00 5014 0000 a874 0000  // TCP
        """)

    /// TCP SYN over IPv6.
    public static let tcpSYN6 = Capture(
        "TCP SYN over IPv6",
        """
        0200 0000 000b 0200 0000 000a 86dd  // Ethernet
        6000 b2a3 0028 0640 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0002
        e228 0050 3894 5da3 0000 0000 a002 fd20 0f09 0000 0204 05a0 0402 080a f906 6ebb  // TCP
        0000 0000 0103 030a
        """)

    /// TCP data over IPv6.
    public static let tcpData6 = Capture(
        "TCP data over IPv6",
        """
        0200 0000 000a 0200 0000 000b 86dd  // Ethernet
        600b 54f5 0026 0640 2001 0db8 0000 0000 0000 0000 0000 0002 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0001
        0050 e228 ad3a 6a59 3894 5da4 8018 003f 0541 0000 0101 080a c27f 1757 f906 6ebb  // TCP
        6865 6c6c 6f0a  // payload
        """)

    /// UDP over IPv4.
    public static let udp4 = Capture(
        "UDP over IPv4",
        """
        0200 0000 000b 0200 0000 000a 0800  // Ethernet
        4500 001d df2d 4000 4011 d79e c000 0201 c000 0202  // IPv4
        d0b4 0009 0009 331a  // UDP
        78  // payload
        """)

    /// UDP over IPv6.
    public static let udp6 = Capture(
        "UDP over IPv6",
        """
        0200 0000 000b 0200 0000 000a 86dd  // Ethernet
        6006 b05c 0009 1140 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0002
        c3c7 0009 0009 6896  // UDP
        78  // payload
        """)

    /// UDP over IPv6 behind hop-by-hop and destination options.
    public static let udpWithExtensions = Capture(
        "UDP over IPv6 behind hop-by-hop and destination options",
        """
        0200 0000 000b 0200 0000 000a 86dd  // Ethernet
        600b 442f 001c 0040 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0002
        3c00 0104 0000 0000  // hop-by-hop
        1100 0104 0000 0000  // destination options
        a2a0 0009 000c 1dd4  // UDP
        6f70 7473  // payload
        """)

    /// UDP-Lite over IPv4.
    public static let udpLite = Capture(
        "UDP-Lite over IPv4",
        """
        0200 0000 000b 0200 0000 000a 0800  // Ethernet
        4500 0020 8b5c 4000 4088 2af6 c000 0201 c000 0202  // IPv4
        b04f 0009 000c ea33 6c69 7465  // protocol 136
        """)

    /// ICMP port unreachable.
    public static let portUnreachable4 = Capture(
        "ICMP port unreachable",
        """
        0200 0000 000a 0200 0000 000b 0800  // Ethernet
        45c0 0039 3cad 0000 4001 b953 c000 0202 c000 0201  // IPv4
        0303 811b 0000 0000  // ICMP
        45 0000 1ddf 2d40 0040 11d7 9ec0 0002 01c0 0002 02d0 b400 0900 0933 1a78  // body
        """)

    /// ICMPv6 port unreachable.
    public static let portUnreachable6 = Capture(
        "ICMPv6 port unreachable",
        """
        0200 0000 000a 0200 0000 000b 86dd  // Ethernet
        600a 2543 0039 3a40 2001 0db8 0000 0000 0000 0000 0000 0002 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0001
        0104 8181 0000 0000  // ICMPv6
        6006 b05c 0009 1140 2001 0db8 0000 0000 0000 0000 0000 0001 2001 0db8 0000 0000  // body
        00 0000 0000 0000 02c3 c700 0900 0968 9678
        """)

    /// Neighbour solicitation of duplicate detection.
    public static let duplicateDetection = Capture(
        "neighbour solicitation of duplicate detection",
        """
        3333 ff00 000a 0200 0000 000a 86dd  // Ethernet
        6000 0000 0020 3aff 0000 0000 0000 0000 0000 0000 0000 0000 ff02 0000 0000 0000  // IPv6
        0000 0001 ff00 000a
        8700 7a62 0000 0000  // ICMPv6
        fe80 0000 0000 0000 0000 00ff fe00 000a 0e01 4c69 56ff 513f  // body
        """)

    /// Neighbour solicitation.
    public static let neighborSolicitation = Capture(
        "neighbour solicitation",
        """
        3333 ff00 0002 0200 0000 000a 86dd  // Ethernet
        6000 0000 0020 3aff 2001 0db8 0000 0000 0000 0000 0000 0001 ff02 0000 0000 0000  // IPv6
        0000 0001 ff00 0002
        8700 1c1e 0000 0000  // ICMPv6
        2001 0db8 0000 0000 0000 0000 0000 0002 0101 0200 0000 000a  // body
        """)

    /// Neighbour advertisement.
    public static let neighborAdvertisement = Capture(
        "neighbour advertisement",
        """
        0200 0000 000a 0200 0000 000b 86dd  // Ethernet
        6000 0000 0020 3aff 2001 0db8 0000 0000 0000 0000 0000 0002 2001 0db8 0000 0000  // IPv6
        0000 0000 0000 0001
        8800 8a68 6000 0000  // ICMPv6
        2001 0db8 0000 0000 0000 0000 0000 0002 0201 0200 0000 000b  // body
        """)

    /// Router solicitation.
    public static let routerSolicitation = Capture(
        "router solicitation",
        """
        3333 0000 0002 0200 0000 000a 86dd  // Ethernet
        6000 0000 0010 3aff fe80 0000 0000 0000 0000 00ff fe00 000a ff02 0000 0000 0000  // IPv6
        0000 0000 0000 0002
        8500 7b1a 0000 0000  // ICMPv6
        0101 0200 0000 000a  // body
        """)

    /// Router advertisement of dnsmasq.
    public static let routerAdvertisement = Capture(
        "router advertisement of dnsmasq",
        """
        3333 0000 0001 0200 0000 000b 86dd  // Ethernet
        6c00 7920 0058 3aff fe80 0000 0000 0000 0000 00ff fe00 000b ff02 0000 0000 0000  // IPv6
        0000 0000 0000 0001
        8600 44af 40c0 0708  // ICMPv6
        0000 0000 0000 0000 0304 4080 0000 0e10 0000 0e10 0000 0000 2001 0db8 0000 0000  // body
        0000 0000 0000 0000 0501 0000 0000 05dc 0101 0200 0000 000b 1903 0000 0000 0e10
        2001 0db8 0000 0000 0000 0000 0000 0053
        """)

    /// Multicast listener report behind a hop-by-hop header.
    public static let listenerReport = Capture(
        "multicast listener report behind a hop-by-hop header",
        """
        3333 0000 0016 0200 0000 000a 86dd  // Ethernet
        6000 0000 0038 0001 0000 0000 0000 0000 0000 0000 0000 0000 ff02 0000 0000 0000  // IPv6
        0000 0000 0000 0016
        3a00 0502 0000 0100  // hop-by-hop
        8f00 6d65 0000 0002  // ICMPv6
        0400 0000 ff02 0000 0000 0000 0000 0001 ff00 000a 0400 0000 ff02 0000 0000 0000  // body
        0000 0001 ff00 0001
        """)
}
