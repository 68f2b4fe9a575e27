# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Load that iperf3 does not make: echoes, connections, many idle flows, starts of programs.

    load.py COMMAND ARGUMENT...

Servers print "ready" and serve until they are killed; clients print one JSON object and end.
"""

import json
import os
import resource
import selectors
import signal
import socket
import statistics
import sys
import time

REQUEST, RESPONSE = 64, 1024


def family(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def listener(port, backlog=4096):
    """A socket that listens on all addresses of both families."""
    return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)


def ready():
    print("ready", flush=True)


def connected(address, port):
    sock = socket.create_connection((address, port), timeout=10)
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def summary(times, elapsed):
    """Median and 99th percentile in microseconds, and the rate."""
    ordered = sorted(times)
    return {
        "count": len(ordered), "median_us": statistics.median(ordered) * 1e6,
        "p99_us": ordered[min(len(ordered) * 99 // 100, len(ordered) - 1)] * 1e6, "per_second": len(ordered) / elapsed,
    }


def repeat(step, seconds, warm_up):
    """Repeats a step for so long after a warm-up; the summary of its times."""
    for _ in range(warm_up):
        step()
    times = []
    start = now = time.perf_counter()
    while now - start < seconds:
        before = now
        step()
        now = time.perf_counter()
        times.append(now - before)
    return summary(times, now - start)


# One-byte echoes.

def tcp_echo_server(port):
    server = listener(int(port))
    ready()
    while True:
        sock, _ = server.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while data := sock.recv(4096):
                sock.sendall(data)
        except OSError:
            pass
        sock.close()


def tcp_echo(address, port, seconds):
    sock = connected(address, int(port))

    def step():
        sock.sendall(b"x")
        sock.recv(16)

    return repeat(step, float(seconds), 200)


def connect_echo(address, port, seconds):
    def step():
        sock = connected(address, int(port))
        sock.sendall(b"x")
        sock.recv(16)
        sock.close()

    return repeat(step, float(seconds), 50)


def udp_echo_server(port):
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", int(port)))
    ready()
    while True:
        data, peer = server.recvfrom(4096)
        server.sendto(data, peer)


def udp_echo(address, port, seconds):
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    sock.connect((address, int(port)))
    sock.settimeout(1)

    def step():
        sock.send(b"x")
        try:
            sock.recv(16)
        except TimeoutError:
            pass

    return repeat(step, float(seconds), 200)


# Connections, each with a request and a response, from several processes at once.

def request_server(port, processes):
    """Answers and closes, so that what remains of a connection (TIME-WAIT) uses up no port of the client's."""
    server = listener(int(port))
    for _ in range(int(processes) - 1):
        if os.fork() == 0:
            break
    else:
        ready()
    answer = b"r" * RESPONSE
    while True:
        sock, _ = server.accept()
        try:
            if sock.recv(4096):
                sock.sendall(answer)
        except OSError:
            pass
        sock.close()


def request(address, port, seconds, processes):
    """Connect, send, receive to the end, close; so many clients."""
    question = b"q" * REQUEST

    def step():
        sock = connected(address, int(port))
        sock.sendall(question)
        left = RESPONSE
        while data := sock.recv(4096):
            left -= len(data)
        sock.close()
        if left != 0:
            raise ConnectionError(f"{left} bytes short")

    pipes = []
    for _ in range(int(processes)):
        reading, writing = os.pipe()
        if os.fork() == 0:
            result = repeat(step, float(seconds), 20)
            os.write(writing, json.dumps(result).encode())
            os._exit(0)
        os.close(writing)
        pipes.append(reading)
    results = []
    for reading in pipes:
        text = os.read(reading, 4096)
        if not text:
            raise ConnectionError("a client failed")
        results.append(json.loads(text))
    return {
        "per_second": sum(result["per_second"] for result in results),
        "count": sum(result["count"] for result in results),
        "median_us": statistics.median(result["median_us"] for result in results),
    }


def timeline(address, port, seconds):
    """Requests one after the other: when each began (the machine's monotonic clock), and how long it took or None."""
    question = b"q" * REQUEST
    requests = []
    end = time.monotonic() + float(seconds)
    while (start := time.monotonic()) < end:
        try:
            with socket.create_connection((address, int(port)), timeout=8) as sock:
                sock.sendall(question)
                left = RESPONSE
                while data := sock.recv(4096):
                    left -= len(data)
            requests.append((start, time.monotonic() - start if left == 0 else None))
        except OSError:
            requests.append((start, None))
    return {"requests": requests}


# Datagrams from one port to many addresses.

def address_server(port):
    """Answers each datagram from the address that it was sent to."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("", int(port)))
    ready()
    while True:
        data, control, _, peer = sock.recvmsg(64, 64)
        own = control[0][2][8:12]
        sock.sendmsg([data], [(socket.IPPROTO_IP, 8, bytes(4) + own + bytes(4))], 0, peer)


def fan_out(port, count, block):
    """One datagram to each of so many addresses of 198.18.0.0/15, each answered; flows a second in each block."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind(("", 4000))
    sock.settimeout(1)
    rates, lost, waiting = [], 0, 0
    start = time.monotonic()
    for number in range(int(count)):
        sock.sendto(b"x", (f"198.18.{number >> 8}.{number & 255}", int(port)))
        waiting += 1
        if waiting == 32 or number + 1 == int(count):
            try:
                while waiting:
                    sock.recv(64)
                    waiting -= 1
            except TimeoutError:
                lost += waiting
                waiting = 0
        if (number + 1) % int(block) == 0:
            now = time.monotonic()
            rates.append(int(block) / (now - start))
            start = now
    return {"per_second": rates, "lost": lost}


# Many flows that do nothing.

def hold_server(port):
    raise_limit()
    server = listener(int(port))
    server.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    held = []
    ready()
    while True:
        selector.select()
        try:
            while True:
                held.append(server.accept()[0])
        except BlockingIOError:
            pass


def hold(address, port, count):
    """Opens connections and holds them until standard input ends; prints how many when they are open."""
    raise_limit()
    held = []
    for number in range(int(count)):
        try:
            held.append(connected(address, int(port)))
        except OSError as error:
            print(json.dumps({"held": number, "error": str(error)}), flush=True)
            break
    else:
        print(json.dumps({"held": len(held)}), flush=True)
    sys.stdin.read()


def raise_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# Starts.

def starts(count, *command):
    """Runs a command so many times; the milliseconds from start to end of each."""
    times = []
    nothing = os.memfd_create("nothing")
    actions = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, nothing, 1)]
    for _ in range(int(count)):
        before = time.perf_counter()
        pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions, setsigdef=[signal.SIGPIPE])
        _, status = os.waitpid(pid, 0)
        times.append((time.perf_counter() - before) * 1e3)
        if status != 0:
            raise ChildProcessError(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}")
    return {"count": len(times), "median_ms": statistics.median(times), "least_ms": min(times)}


COMMANDS = {
    "tcp-echo-server": tcp_echo_server, "tcp-echo": tcp_echo, "connect-echo": connect_echo,
    "udp-echo-server": udp_echo_server, "udp-echo": udp_echo,
    "request-server": request_server, "request": request, "timeline": timeline,
    "address-server": address_server, "fan-out": fan_out,
    "hold-server": hold_server, "hold": hold, "starts": starts,
}

if __name__ == "__main__":
    outcome = COMMANDS[sys.argv[1]](*sys.argv[2:])
    if outcome is not None:
        print(json.dumps(outcome))
