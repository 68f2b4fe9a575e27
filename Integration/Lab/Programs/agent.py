# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Does what a test asks, in one namespace, for as long as the test lasts: `agent.py SOCKET`.

Each connection to the UNIX socket is one request, a line of words, and one answer, text up to the end of file:

  open NAME KIND ADDRESS     opens a flow that stays: `tcp` or `udp` to port 7300; "open LOCAL PORT" or "failed WHY"
  exchange NAME SECONDS      one line there and back; "PEER PORT" as the server saw us, or what went wrong
  ending NAME SECONDS        waits, without sending, for an idle flow to end: "ECONNRESET", "end of file", "nothing"
  close NAME                 forgets a flow
  try KIND ADDRESS SECONDS   one flow from open to answer: "PEER PORT", or what went wrong, then the seconds it took
  dns KIND ADDRESS SECONDS   one question: the answer's address, or "RCODE n", then the seconds it took
  state                      what netstate.py prints
  listen KIND ADDRESS PORT   answers "NAME PEER" there from now on
  mark                       begins to count route netlink notifications afresh
  events                     their count since the mark, then the time of the last (CLOCK_MONOTONIC, seconds) or "-"
  seen                       the notifications since the mark in short
  ip LINES...                runs `ip -batch`, lines separated by ";"; "done TIME" when the last one was carried out
  try-ip LINES...            the same, and what the kernel refuses is left out
  burst COUNT DEVICE VIA     so many route events: routes are added and all but ten deleted; "done TIME"
  churn WHAT ADDRESS SECONDS echoes all the time and tells the round trips: "COUNT MEDIAN P99 WORST" in milliseconds
  traffic begin ADDRESS...   flows of every kind to the addresses, again and again, in the background
  traffic end                ends that; "COUNT" of the answers

It serves, too: on port 7300 of every address TCP and UDP say whom they are talking to for each line, and with
`agent.py SOCKET serve` DNS is answered on every address with the address that was asked.
"""
import contextlib
import errno
import io
import ipaddress
import os
import runpy
import socket
import struct
import subprocess
import sys
import threading
import time

from name_server import exactly

PORT = 7300
# Of ip(7) and ipv6(7); Python's socket module has no names for them.
IP_PKTINFO, IP_RECVERR, IP_FREEBIND, IPV6_RECVERR = 8, 11, 15, 25
NETSTATE = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "netstate.py")
flows = {}
marks = {"count": 0, "last": None, "seen": []}
state_lock = threading.Lock()


def name_of(error):
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "timeout"
    if isinstance(error, EOFError):
        return "end of file"
    return errno.errorcode.get(error.errno, str(error)) if isinstance(error, OSError) else str(error)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def open_flow(kind, address, seconds, port=PORT):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    try:
        sock.settimeout(seconds)
        # With the zone of a link-local address, which connect() takes as a number only.
        sock.connect(socket.getaddrinfo(address, port, sock.family, sock.type)[0][4])
    except OSError:
        sock.close()
        raise
    return sock


def exchange(sock, seconds, patient=True):
    """Sends a token until the server's line with that token comes back; errors of datagrams may pass, if patient."""
    token = b"%d" % time.monotonic_ns()
    end = time.monotonic() + seconds
    stream = sock.type == socket.SOCK_STREAM
    sock.settimeout(seconds)
    try:
        sock.send(token + b"\n")
    except OSError:
        if stream or not patient:
            raise
    data = b""
    again = time.monotonic() + 0.3
    while True:
        left = (end if stream else min(end, again)) - time.monotonic()
        if left <= 0:
            if stream or time.monotonic() >= end:
                raise TimeoutError
            # Datagrams may be lost, as long as some get through.
            with contextlib.suppress(OSError):
                sock.send(token + b"\n")
            again = time.monotonic() + 0.3
            continue
        sock.settimeout(left)
        try:
            piece = sock.recv(65536)
        except TimeoutError:
            continue
        except OSError:
            if stream or not patient:
                raise
            time.sleep(0.02)
            continue
        if stream and not piece:
            raise EOFError
        data = data + piece if stream else piece
        for line in data.split(b"\n")[:-1]:
            if line.startswith(token + b" "):
                return line.decode().split(" ", 1)[1]


def run_open(name, kind, address):
    sock = open_flow(kind, address, 5)
    flows[name] = sock
    return "open %s %d" % sock.getsockname()[:2]


def run_exchange(name, seconds):
    return exchange(flows[name], float(seconds))


def run_ending(name, seconds):
    sock = flows[name]
    sock.settimeout(float(seconds))
    try:
        return "end of file" if sock.recv(10) == b"" else "data"
    except TimeoutError:
        return "nothing"


def run_close(name):
    flows.pop(name).close()
    return "closed"


def timed(work):
    start = time.monotonic()
    try:
        result = work()
    except (OSError, EOFError) as error:
        result = name_of(error)
    return "%s\n%.3f" % (result, time.monotonic() - start)


def run_try(kind, address, seconds, port=PORT):
    def work():
        with open_flow(kind, address, float(seconds), int(port)) as sock:
            if kind == "udp" and sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            elif kind == "udp":
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
            return exchange(sock, float(seconds), patient=False)
    return timed(work)


# DNS: enough of RFC 1035 for one question about one name.

def ask(kind, address, seconds):
    identifier = int.from_bytes(os.urandom(2), "big")
    query = struct.pack("!HHHHHH", identifier, 0x0100, 1, 0, 0, 0) + b"\x03web\x07example\0" + struct.pack("!HH", 16, 1)
    with open_flow(kind, address, seconds, 53) as sock:
        sock.settimeout(seconds)
        if kind == "tcp":
            sock.sendall(struct.pack("!H", len(query)) + query)
            reply = exactly(sock, struct.unpack("!H", exactly(sock, 2))[0])
        else:
            sock.send(query)
            reply = sock.recv(4096)
    if reply[:2] != query[:2]:
        return "another question's answer"
    code = reply[3] & 15
    if code:
        return "RCODE %d" % code
    return reply[len(query) + 13:].decode()


def run_dns(kind, address, seconds):
    return timed(lambda: ask(kind, address, float(seconds)))


def answer(query, asked):
    """A TXT record that says which address was asked."""
    text = asked.encode()
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0)
    end = 12
    while query[end]:
        end += 1 + query[end]
    record = struct.pack("!HHHIHB", 0xC00C, 16, 1, 60, len(text) + 1, len(text)) + text
    return head + query[12:end + 5] + record


def plain(address):
    return address.removeprefix("::ffff:").split("%")[0]


# Servers.

def serve_line(data, peer):
    token = data.split(b"\n")[0]
    return token + b" %s %d\n" % (plain(peer[0]).encode(), peer[1])


def serve_stream(sock, peer):
    with contextlib.suppress(OSError):
        data = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
            while b"\n" in data:
                line, data = data.split(b"\n", 1)
                sock.sendall(serve_line(line, peer))
        sock.close()


def serve_dns_stream(sock, _):
    with contextlib.suppress(OSError, EOFError, IndexError):
        while True:
            query = exactly(sock, struct.unpack("!H", exactly(sock, 2))[0])
            reply = answer(query, plain(sock.getsockname()[0]))
            sock.sendall(struct.pack("!H", len(reply)) + reply)


def thread(work, *arguments):
    threading.Thread(target=work, args=arguments, daemon=True).start()


def accept(listener, serve):
    while True:
        sock, peer = listener.accept()
        thread(serve, sock, peer)


def datagrams(sock, reply):
    """Answers from the address that was asked."""
    while True:
        try:
            data, ancillary, _, peer = sock.recvmsg(65535, 256)
            asked, back = "", []
            for level, kind, value in ancillary:
                if level == socket.IPPROTO_IPV6:
                    asked = plain(str(ipaddress.IPv6Address(value[:16])))
                    back.append((level, kind, value[:16] + bytes(4)))
                else:
                    asked = str(ipaddress.IPv4Address(value[8:12]))
                    back.append((level, kind, struct.pack("i", 0) + value[8:12] + bytes(4)))
            sock.sendmsg([reply(data, peer, asked)], back, 0, peer)
        except (OSError, IndexError):
            # The way back has gone, or it was no question.
            continue


def serve_everywhere(port, stream, reply):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True)
    thread(accept, listener, stream)
    for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        sock.bind((any_address, port))
        thread(datagrams, sock, reply)


def run_listen(kind, address, port):
    """A server on one address, which need not be there yet."""
    family = family_of(address)
    sock = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, int(port)))
    if kind == "tcp":
        sock.listen(64)
        thread(accept, sock, serve_stream if port != "53" else serve_dns_stream)
    elif port == "53":
        thread(datagrams_of_one, sock, lambda data, _: answer(data, address))
    else:
        thread(datagrams_of_one, sock, serve_line)
    return "listening"


def datagrams_of_one(sock, reply):
    while True:
        with contextlib.suppress(OSError):
            data, peer = sock.recvfrom(65535)
            sock.sendto(reply(data, peer), peer)


# The kernel.

def run_state():
    with state_lock:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            runpy.run_path(NETSTATE, run_name="__main__")
        return text.getvalue().strip()


KINDS = {16: "+link", 17: "-link", 20: "+addr", 21: "-addr", 24: "+route", 25: "-route"}


def watch_kernel():
    """Counts what the kernel announces about links, addresses and routes."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((0, 0x1 | 0x10 | 0x40 | 0x100 | 0x400))
    while True:
        try:
            data = sock.recv(1 << 16)
        except OSError:
            marks["count"] += 1
            continue
        now = time.monotonic()
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            marks["count"] += 1
            marks["last"] = now
            if len(marks["seen"]) < 200:
                marks["seen"].append(KINDS.get(kind, str(kind)))
            data = data[(length + 3) & ~3:] if length >= 16 else b""


def run_mark():
    marks.update(count=0, last=None, seen=[])
    return "marked"


def run_events():
    last = "-" if marks["last"] is None else "%.6f" % marks["last"]
    return "%d %s" % (marks["count"], last)


def run_seen():
    return " ".join(marks["seen"])


def run_ip(*words):
    lines = " ".join(words).replace(";", "\n") + "\n"
    result = subprocess.run(["ip", "-batch", "-"], input=lines, capture_output=True, text=True)
    if result.returncode != 0:
        return "failed: " + result.stderr
    return "done %.6f" % time.monotonic()


def run_churn(kind, address, seconds):
    times = []
    with open_flow(kind, address, 5) as sock:
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            start = time.monotonic()
            exchange(sock, 5)
            times.append(time.monotonic() - start)
            time.sleep(0.0005)
    times.sort()
    return "%d %.4f %.4f %.4f" % (
        len(times), times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000, times[-1] * 1000)


def run_try_ip(*words):
    lines = " ".join(words).replace(";", "\n") + "\n"
    subprocess.run(["ip", "-force", "-batch", "-"], input=lines, capture_output=True, text=True)
    return "done %.6f" % time.monotonic()


def run_burst(count, device, via):
    half = int(count) // 2 + 5
    networks = ["10.%d.%d.0/24" % (100 + number // 250, number % 250) for number in range(half)]
    lines = ["route add %s via %s dev %s" % (network, via, device) for network in networks]
    lines += ["route delete %s via %s dev %s" % (network, via, device) for network in networks[:-10]]
    subprocess.run(["ip", "-batch", "-"], input="\n".join(lines) + "\n", check=True, text=True, capture_output=True)
    return "done %.6f" % time.monotonic()


traffic = {"on": False, "threads": [], "count": 0}


def keep_busy(kind, address):
    """One flow that stays as long as it can, and short ones beside it."""
    long = None
    while traffic["on"]:
        try:
            if long is None:
                long = open_flow(kind, address, 1)
            exchange(long, 1)
            with open_flow(kind, address, 1) as short:
                exchange(short, 1)
            traffic["count"] += 2
        except (OSError, EOFError):
            if long:
                long.close()
            long = None
        time.sleep(0.05)
    if long:
        long.close()


def run_traffic(what, *addresses):
    if what == "begin":
        traffic.update(on=True, count=0)
        works = [(kind, address) for kind in ("tcp", "udp") for address in addresses]
        traffic["threads"] = [threading.Thread(target=keep_busy, args=work, daemon=True) for work in works]
        for worker in traffic["threads"]:
            worker.start()
        return "begun"
    traffic["on"] = False
    for worker in traffic["threads"]:
        worker.join()
    return str(traffic["count"])


COMMANDS = {
    "open": run_open, "exchange": run_exchange, "ending": run_ending, "close": run_close, "try": run_try,
    "dns": run_dns, "state": run_state, "listen": run_listen, "mark": run_mark, "events": run_events,
    "seen": run_seen, "ip": run_ip, "churn": run_churn,
    "try-ip": run_try_ip, "burst": run_burst, "traffic": run_traffic,
}


def request(sock, _):
    with sock:
        words = sock.makefile("r").readline().split()
        try:
            reply = COMMANDS[words[0]](*words[1:])
        except (OSError, EOFError) as error:
            reply = name_of(error)
        except subprocess.CalledProcessError as error:
            reply = "failed: %s" % error.stderr
        with contextlib.suppress(OSError):
            sock.sendall(reply.encode())


def main():
    threading.stack_size(256 * 1024)
    thread(watch_kernel)
    if "serve" in sys.argv:
        serve_everywhere(PORT, serve_stream, lambda data, peer, _: serve_line(data, peer))
        serve_everywhere(53, serve_dns_stream, lambda data, _, asked: answer(data, asked))
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    control.bind(sys.argv[1])
    control.listen(64)
    print("ready", flush=True)
    accept(control, request)


main()
