# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Floods at a steady rate, and what they do to others.

flood.py syn IFNAME RATE COUNT SOURCE TARGET PORT    opens from spoofed ports of SOURCE, onto the namespace's interface
flood.py echo IFNAME RATE COUNT SOURCE TARGET        echo requests, each with an identifier of its own
flood.py udp IFNAME RATE COUNT SOURCE TARGET         datagrams to ports where nobody is, each from a port of its own
flood.py spoof RATE COUNT TARGET PORT                datagrams from spoofed addresses of 198.18.0.0/15, by the routes
flood.py pulse ADDRESS PORT RATE SECONDS             new connections, one byte there and back; says how they went
flood.py hold ADDRESS PORT COUNT                     connections that stay; on SIGUSR1 it says how many are lost
flood.py stuck ADDRESS PORT COUNT BYTES              uploads to a server that does not read; they end on SIGUSR1,
                                                     and with resets, so that nothing is left of them, on SIGTERM
flood.py delay PID MILLISECONDS                      a slow link: "far" here, "eth0" in the namespace of a process
flood.py deaf PORT                                   accepts connections and never reads
flood.py source PORT BYTES                           sends so much to everybody, and reads nothing
flood.py drain PORT                                  reads whatever comes, one connection after the other
flood.py push ADDRESS PORT SECONDS                   an upload; says its Gbit/s and its window at most
flood.py serve PORT                                  answers each connection's first byte and closes after the peer

The rate is in packets or connections a second, 0 for as fast as can be.
"""
import asyncio
import collections
import ctypes
import fcntl
import random
import resource
import selectors
import signal
import socket
import struct
import sys
import time

from raw import checksum, ethernet, ipv4, open_interface, syn


def paced(rate, count):
    """Counts up, no faster than the rate."""
    start = time.monotonic()
    for number in range(count):
        if rate and number % 16 == 0:
            ahead = start + number / rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        yield number


def say_rate(count, start):
    """The moments are those of the machine's monotonic clock."""
    end = time.monotonic()
    print(f"sent {count} in {end - start:.1f} s, from {start:.3f} to {end:.3f}", flush=True)


def onto(name, rate, count, frame):
    """Frames that are made beforehand, so that the flood costs the machine no more than it must."""
    sock, mac = open_interface(name)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    frames = [ethernet(0x0800, frame(number), source=mac) for number in range(min(int(count), 60000))]
    print("ready", flush=True)
    start = time.monotonic()
    for number in paced(int(rate), int(count)):
        try:
            sock.send(frames[number % len(frames)])
        except OSError:
            pass  # The interface's queue is full: as good as sent.
    say_rate(count, start)


def flood_syn(name, rate, count, source, target, port):
    def frame(number):
        return ipv4(6, source, target, syn(source, target, 1024 + number % 60000, int(port)))
    onto(name, rate, count, frame)


def flood_echo(name, rate, count, source, target):
    def frame(number):
        head = struct.pack("!BBHHH", 8, 0, 0, number & 0xFFFF, number >> 16)
        return ipv4(1, source, target, head[:2] + struct.pack("!H", checksum(head)) + head[4:])
    onto(name, rate, count, frame)


def flood_udp(name, rate, count, source, target):
    def frame(number):
        ports = 1024 + number % 60000, 9000 + number % 1000
        return ipv4(17, source, target, struct.pack("!HHHH", *ports, 9, 0) + b"x")
    onto(name, rate, count, frame)


def flood_spoof(rate, count, target, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    dice = random.Random(1)
    datagram = struct.pack("!HHHH", 5000, int(port), 9, 0) + b"x"
    start = time.monotonic()
    for number in paced(int(rate), int(count)):
        source = f"198.{18 + dice.randrange(2)}.{dice.randrange(256)}.{dice.randrange(256)}"
        try:
            sock.sendto(ipv4(17, source, target, datagram), (target, 0))
        except OSError:
            pass
    say_rate(count, start)


async def pulse(address, port, rate, seconds):
    """At a rate, or with 0 one after the other."""
    times, failures = [], {}

    async def once():
        start = time.monotonic()
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(address, int(port)), 8)
            writer.write(b"x")
            await asyncio.wait_for(reader.readexactly(1), 8)
            writer.close()
            times.append((start, time.monotonic() - start))
        except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            failures[type(error).__name__] = failures.get(type(error).__name__, 0) + 1

    start = time.monotonic()
    rate, seconds, tasks, number = float(rate), float(seconds), [], 0
    while time.monotonic() - start < seconds:
        if rate:
            tasks.append(asyncio.create_task(once()))
            number += 1
            await asyncio.sleep(max(start + number / rate - time.monotonic(), 0))
        else:
            await once()
    await asyncio.gather(*tasks)
    taken = sorted(duration for _, duration in times)
    median = taken[len(taken) // 2] if taken else 0
    # When the last slow one began: from then on all is normal.
    slow = max((at + duration - start for at, duration in times if duration > 0.2), default=0)
    print(f"ok {len(times)} failed {sum(failures.values())} median {median * 1000:.1f} ms "
          f"longest {(taken[-1] if taken else 0) * 1000:.0f} ms slow until {slow:.1f} s {failures}", flush=True)


def many(address, port, count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count) + 100,) * 2)
    return [socket.create_connection((address, int(port)), 20) for _ in range(int(count))]


def hold(address, port, count):
    socks = many(address, port, count)
    print("ready", flush=True)
    signal.sigwait([signal.SIGUSR1])
    lost = 0
    for sock in socks:
        try:
            sock.settimeout(5)
            sock.sendall(b"x")
            lost += sock.recv(1) != b"x"
        except OSError:
            lost += 1
    print(f"held {len(socks)} lost {lost}", flush=True)


def stuck(address, port, count, size):
    socks = many(address, port, count)
    for sock in socks:
        sock.setblocking(False)
    chunk, left = bytes(1 << 16), {sock: int(size) for sock in socks}
    selector = selectors.DefaultSelector()
    for sock in socks:
        selector.register(sock, selectors.EVENT_WRITE)
    # Until nothing has gone on for a while.
    while left and (ready := selector.select(1.0)):
        for key, _ in ready:
            try:
                left[key.fileobj] -= key.fileobj.send(chunk)
            except OSError:
                pass
            if left[key.fileobj] <= 0:
                selector.unregister(key.fileobj)
    print("ready", flush=True)
    if signal.sigwait([signal.SIGUSR1, signal.SIGTERM]) == signal.SIGTERM:
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()


def delay(process, milliseconds):
    """Carries packets between two interfaces, each held back for a while: netem is not on every kernel."""
    def tun(name):
        device = open("/dev/net/tun", "r+b", buffering=0)
        # TUNSETIFF; IFF_TUN | IFF_NO_PI
        fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", name.encode(), 0x1001))
        return device

    here = tun("far")
    with open(f"/proc/{process}/ns/net") as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
            sys.exit("setns failed")
    there = tun("eth0")
    pause, waiting = float(milliseconds) / 1000, collections.deque()
    selector = selectors.DefaultSelector()
    for source, target in (here, there), (there, here):
        selector.register(source, selectors.EVENT_READ, target)
    print("ready", flush=True)
    while True:
        left = max(waiting[0][0] - time.monotonic(), 0) if waiting else None
        for key, _ in selector.select(left):
            waiting.append((time.monotonic() + pause, key.data, key.fileobj.read(65536)))
        while waiting and waiting[0][0] <= time.monotonic():
            _, target, packet = waiting.popleft()
            try:
                target.write(packet)
            except OSError:
                pass


def serve(port):
    """One thread that takes thousands of connections a second, and forgets those that never say anything."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    listener = socket.create_server(("", int(port)), backlog=4096)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                for _ in range(64):
                    try:
                        sock = listener.accept()[0]
                    except OSError:
                        break
                    sock.setblocking(False)
                    selector.register(sock, selectors.EVENT_READ)
                continue
            try:
                data = key.fileobj.recv(64)
                if data:
                    key.fileobj.send(data)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()


def deaf(port):
    listener = socket.create_server(("", int(port)), backlog=4096)
    print("ready", flush=True)
    kept = []
    while True:
        kept.append(listener.accept()[0])


def source(port, size):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    listener, kept, data = socket.create_server(("", int(port)), backlog=4096), [], bytes(int(size))
    print("ready", flush=True)
    while True:
        sock = listener.accept()[0]
        sock.setblocking(False)
        try:
            sock.send(data)
        except OSError:
            pass
        kept.append(sock)


def drain(port):
    listener = socket.create_server(("", int(port)))
    print("ready", flush=True)
    buffer = bytearray(1 << 20)
    while True:
        sock = listener.accept()[0]
        while sock.recv_into(buffer):
            pass
        sock.close()


def push(address, port, seconds):
    chunk, count, window = bytes(1 << 18), 0, 0
    with socket.create_connection((address, int(port)), 20) as sock:
        start = time.monotonic()
        while (elapsed := time.monotonic() - start) < float(seconds):
            count += sock.send(chunk)
            # tcpi_snd_wnd of struct tcp_info
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)
            window = max(window, struct.unpack_from("I", info, 228)[0])
    print(f"{count * 8 / elapsed / 1e9:.3f} {window}", flush=True)


if __name__ == "__main__":
    what, arguments = sys.argv[1], sys.argv[2:]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1] + ([signal.SIGTERM] if what == "stuck" else []))
    if what == "pulse":
        asyncio.run(pulse(*arguments))
    else:
        {"syn": flood_syn, "echo": flood_echo, "udp": flood_udp, "spoof": flood_spoof, "hold": hold, "stuck": stuck,
         "delay": delay, "deaf": deaf, "source": source, "drain": drain, "push": push,
         "serve": serve}[what](*arguments)
