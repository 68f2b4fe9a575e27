# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Frames that no decent kernel sends, straight onto the namespace's interface: `raw.py WHAT IFNAME ...`."""
import random
import socket
import struct
import sys


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ipv4(protocol, source, target, payload, length=None, ihl=5, fragment=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x40 | ihl, 0, length or 20 + len(payload), 1, fragment, 64, protocol, 0,
                       socket.inet_aton(source), socket.inet_aton(target))
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(next_header, source, target, payload, length=None):
    return struct.pack("!IHBB16s16s", 6 << 28, len(payload) if length is None else length, next_header, 64,
                       socket.inet_pton(socket.AF_INET6, source), socket.inet_pton(socket.AF_INET6, target)) + payload


def syn(source, target, source_port, target_port, flags=0x02, offset=5):
    head = struct.pack("!HHIIBBHHH", source_port, target_port, 1000, 0, offset << 4, flags, 65535, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def ethernet(kind, payload, target=b"\xff" * 6, source=b"\x02\0\0\0\0\x01"):
    return target + source + struct.pack("!H", kind) + payload


def open_interface(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind((name, 0))
    return sock, sock.getsockname()[4]


def offload_header(dice, length):
    """A virtio-net header that owes a checksum or segments somewhere (struct virtio_net_hdr, AF_PACKET's PACKET_VNET_HDR).

    The kernel takes what is possible at all, and hands it to whoever reads the interface as it is.
    """
    kind = dice.choice([0, 0, 0, 0, 1, 3, 4, 5, 1 | 0x80, 4 | 0x80])
    start = dice.choice([14, 34, 54, dice.randrange(length)])
    return struct.pack("=BBHHHH", dice.choice([0, 1, 1, 2]) if kind else dice.choice([0, 0, 1, 2]), kind, dice.choice([0, 54, 74, dice.randrange(length)]),
                       dice.choice([1, 8, 536, 1448, 65535, 0]), start, dice.choice([6, 16, dice.randrange(64)]))


def garbage(name, count, seed, offloads="", source="192.0.2.10", target="192.0.2.1", source6="2001:db8:1::10",
            target6="2001:db8:1::1"):
    """Noise, truncations, wrong lengths and impossible headers, most of them of the namespace's own MAC address."""
    sock, mac = open_interface(name)
    if offloads:
        sock.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
    dice = random.Random(int(seed))
    taken = 0

    def noise(most):
        return dice.randbytes(dice.randrange(most))

    def some_ipv4():
        payload = dice.choice([syn(source, target, dice.randrange(65536), dice.randrange(65536), dice.randrange(256),
                                   dice.randrange(16)), struct.pack("!HHHH", 1, 53, dice.randrange(65536), 0), noise(80)])
        return ipv4(dice.choice([1, 2, 6, 17, 47, 132, 255]), source, target, payload + noise(8),
                    length=dice.choice([None, 0, 1, 19, 65535]), ihl=dice.randrange(16), fragment=dice.randrange(65536))

    def some_ipv6():
        return ipv6(dice.choice([0, 6, 17, 43, 44, 58, 59, 60, 255]), source6, target6, noise(120),
                    length=dice.choice([None, 0, 65535]))

    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, mac, socket.inet_aton(source), b"\0" * 6,
                      socket.inet_aton(target))
    shapes = [
        lambda: (0x0800, some_ipv4()), lambda: (0x86DD, some_ipv6()), lambda: (0x0806, arp + noise(10)),
        lambda: (0x0806, arp[:dice.randrange(len(arp))]), lambda: (dice.randrange(65536), noise(200)),
        lambda: (0x0800, some_ipv4()[:dice.randrange(40)]), lambda: (0x86DD, some_ipv6()[:dice.randrange(60)]),
        lambda: (0x0800, ipv4(17, source, target, struct.pack("!HHHH", 68, 67, dice.randrange(400), 0) + noise(400))),
        lambda: (0x86DD, ipv6(58, source6, "ff02::1", bytes([dice.choice([133, 135, 136, 143, 128])]) + noise(60))),
        lambda: (0x86DD, ipv6(17, "fe80::1234", "ff02::1:2", struct.pack("!HHHH", 546, 547, 8, 0) + noise(60))),
    ]
    for _ in range(int(count)):
        kind, payload = dice.choice(shapes)()
        frame = ethernet(kind, payload, target=dice.choice([b"\xff" * 6, dice.randbytes(6)]), source=mac)
        if dice.random() < 0.1:
            frame = frame[:dice.randrange(14, len(frame) + 1)]
        if offloads:
            frame = offload_header(dice, len(frame)) + frame
        try:
            sock.send(frame)
            taken += 1
        except OSError:
            pass  # The kernel refuses some sizes itself; the others are what matters.
    print("sent", count, "taken", taken)


def syn_flood(name, count, source, target, port):
    """Opens that are never completed, from ports and addresses that do not answer."""
    sock, mac = open_interface(name)
    dice = random.Random(1)
    for number in range(int(count)):
        segment = syn(source, target, 1024 + number % 60000, int(port) if number % 2 else dice.randrange(1, 65536))
        sock.send(ethernet(0x0800, ipv4(6, source, target, segment), source=mac))
    print("sent", count)


def segment(source, target, ports, sequence, acknowledgment, flags, options=b"", payload=b"", window=65535):
    head = struct.pack("!HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, acknowledgment & 0xFFFFFFFF,
                       (5 + len(options) // 4) << 4, flags, window, 0, 0) + options + payload
    pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack("!BBH", 0, 6, len(head))
    return head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]


def handshake(sock, ear, mac, source, target, ports, options):
    """Opens a connection from an address that the namespace's kernel knows nothing of; the server's first number."""
    sock.send(ethernet(0x0800, ipv4(6, source, target, segment(source, target, ports, 1000, 0, 2, options)), source=mac))
    while True:
        frame = ear.recv(2048)
        start = 14 + (frame[14] & 15) * 4
        answer = struct.unpack_from("!HHIIBB", frame, start)
        if frame[23] == 6 and answer[:2] == (ports[1], ports[0]) and answer[5] & 0x12 == 0x12:
            number = answer[2]
            break
    sock.send(ethernet(0x0800, ipv4(6, source, target, segment(source, target, ports, 1001, number + 1, 16)), source=mac))
    return number


def open_ear(name):
    ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    ear.bind((name, 0x0800))
    ear.settimeout(10)
    return ear


def stateful(name, source, target, port, connections, count, seed):
    """Established connections, then segments that are right but for what chance makes wrong."""
    sock, mac = open_interface(name)
    ear, dice = open_ear(name), random.Random(int(seed))
    for number in range(int(connections)):
        ports = 20000 + number, int(port)
        first = handshake(sock, ear, mac, source, target, ports, b"\x02\x04\x05\xb4")
        for _ in range(int(count)):
            near = dice.random() < 0.8
            sequence = 1001 + dice.randrange(-70000, 70000) if near else dice.randrange(1 << 32)
            acknowledgment = first + 1 + dice.randrange(-2000, 2000) if near else dice.randrange(1 << 32)
            flags = dice.choice([16, 16, 16, 24, 17, 2, 18, 20, 4, 0, 255, dice.randrange(256)])
            data = dice.randbytes(dice.choice([0, 0, 1, 100, 1400]))
            options = dice.choice([b"", b"", dice.randbytes(4 * dice.randrange(11))])
            sock.send(ethernet(0x0800, ipv4(6, source, target, segment(
                source, target, ports, sequence, acknowledgment, flags, options, data, dice.randrange(65536))), source=mac))
    print("sent", int(connections) * int(count))


def small_segments(name, source, target, port, size):
    """A connection whose end takes segments of next to nothing, to a server that has much to send."""
    sock, mac = open_interface(name)
    ear = open_ear(name)
    ports = 30000 + int(size), int(port)
    first = handshake(sock, ear, mac, source, target, ports, struct.pack("!BBH", 2, 4, int(size)))
    ear.settimeout(0.2)
    received = 0
    for _ in range(200):
        try:
            frame = ear.recv(70000)
        except TimeoutError:
            break
        start = 14 + (frame[14] & 15) * 4
        if frame[23] == 6 and struct.unpack_from("!HH", frame, start) == (ports[1], ports[0]):
            number, = struct.unpack_from("!I", frame, start + 4)
            length = struct.unpack_from("!H", frame, 16)[0] - (frame[14] & 15) * 4 - (frame[start + 12] >> 4) * 4
            received += length
            sock.send(ethernet(0x0800, ipv4(6, source, target, segment(
                source, target, ports, 1001, number + length, 16)), source=mac))
    print("received", received)


def mapped_syn(name, source, target):
    """An IPv6 SYN to an address that stands for an IPv4 one, and back."""
    sock, mac = open_interface(name)
    head = struct.pack("!HHIIBBHHH", 40000, 80, 1000, 0, 0x50, 2, 65535, 0, 0)
    for ends in (source, target), (target, source):
        pseudo = b"".join(socket.inet_pton(socket.AF_INET6, end) for end in ends) + struct.pack("!II", len(head), 6)
        whole = head[:16] + struct.pack("!H", checksum(pseudo + head)) + head[18:]
        sock.send(ethernet(0x86DD, ipv6(6, *ends, whole), source=mac))
    print("sent 2")


def mapped_fragments(name, source, target, length):
    """An IPv6 packet of two fragments between addresses that only sockets have."""
    sock, mac = open_interface(name)
    for offset, end, more in (0, 32768, 1), (32768, int(length), 0):
        fragment = struct.pack("!BBHI", 17, 0, offset | more, 7) + bytes(end - offset)
        sock.send(ethernet(0x86DD, ipv6(44, source, target, fragment), source=mac))
    print("sent 2")


def datagram6(name, source, target, port, text):
    """An IPv6 datagram that no socket would send there."""
    sock, mac = open_interface(name)
    ends = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, target)
    datagram = struct.pack("!HHHH", 40000, int(port), 8 + len(text), 0) + text.encode()
    total = checksum(ends + struct.pack("!II", len(datagram), 17) + datagram)
    datagram = datagram[:6] + struct.pack("!H", total) + datagram[8:]
    sock.send(ethernet(0x86DD, ipv6(17, source, target, datagram), source=mac))
    print("sent 1")


if __name__ == "__main__":
    {"garbage": garbage, "syn-flood": syn_flood, "mapped-fragments": mapped_fragments, "stateful": stateful,
     "small-segments": small_segments, "mapped-syn": mapped_syn, "datagram6": datagram6}[sys.argv[1]](*sys.argv[2:])
