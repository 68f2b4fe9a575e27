# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Clients for the servers of serve.py: `client.py WHAT ARGUMENT...`; one line of output, and status 0 when all is well.

Transfers say "ok BYTES SHA256 MILLISECONDS": the last is the longest time without progress at either end.
"""
import errno
import hashlib
import os
import resource
import selectors
import socket
import struct
import sys
import threading
import time

from pattern import Progress, pieces, read_slowly, read_with_pauses, write_slowly

DEADLINE = 60
IP_RECVERR, IPV6_RECVERR = 11, 25  # ip(7), ipv6(7); Python's socket module has no names for them.
CONGESTION_CONTROL = os.environ.get("TAPAS_LAB_CONGESTION", "").encode()


def connect(address, port, timeout=DEADLINE, receive_buffer=0):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if receive_buffer:
        # Before connecting, or the window scale is that of a larger one.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(timeout)
    try:
        sock.connect((address, int(port)))
    except OSError:
        sock.close()
        raise
    if CONGESTION_CONTROL:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
    return sock


def read_all(sock, progress=None):
    count, digest, head = 0, hashlib.sha256(), b""
    while True:
        data = sock.recv(1 << 18)
        if progress:
            progress.step()
        if not data:
            return count, digest.hexdigest(), head
        if len(head) < 4096:
            head += data[:4096]
        count += len(data)
        digest.update(data)


def expected(size, seed):
    digest = hashlib.sha256()
    for piece in pieces(size, seed):
        digest.update(piece)
    return f"{size} {digest.hexdigest()}"


def must(condition, text):
    if not condition:
        sys.exit(f"failed: {text}")


def say(line):
    """Prints a line in one piece: `both` has two threads that do."""
    sys.stdout.write(line + "\n")


def send_all(sock, data, progress):
    view = memoryview(data)
    while view:
        view = view[sock.send(view):]
        progress.step()


def sent(sock, size, seed, progress=None):
    """Ends the writing side after what was sent, and compares what the server says it has read.

    Of a writer whom the reader holds up the progress says nothing: then only the reader's counts."""
    sock.shutdown(socket.SHUT_WR)
    answer, stall = read_all(sock, progress)[2].decode().strip().rsplit(" ", 1)
    must(answer == expected(size, seed), f"the server read {answer}, we sent {expected(size, seed)}")
    say(f"ok {answer} {max(progress.milliseconds() if progress else 0, int(stall))}")


def upload(address, size, seed):
    """Sends, ends the writing side, and only then is told what arrived: half-close by us."""
    size, seed = int(size), int(seed)
    # Made before the clock starts: these bytes are not the network's time.
    data = list(pieces(size, seed))
    with connect(address, 7002) as sock:
        progress = Progress()
        for piece in data:
            send_all(sock, piece, progress)
        sent(sock, size, seed, progress)


def received(size, seed, count, digest, progress):
    must(f"{count} {digest}" == expected(size, seed), f"we read {count} {digest}, wanted {expected(size, seed)}")
    say(f"ok {count} {digest} {progress.milliseconds()}")


def download(address, size, seed):
    size, seed = int(size), int(seed)
    with connect(address, 7003) as sock:
        progress = Progress()
        sock.sendall(f"{size} {seed}\n".encode())
        count, digest, _ = read_all(sock, progress)
    received(size, seed, count, digest, progress)


def slow_reader(address, size, seed):
    """A download whose reader has a small buffer and takes little at a time, after a pause."""
    size, seed = int(size), int(seed)
    with connect(address, 7003, receive_buffer=16384) as sock:
        progress = Progress()
        sock.sendall(f"{size} {seed}\n".encode())
        count, digest = read_slowly(sock, progress)
    received(size, seed, count, digest, progress)


def slow_writer(address, size, seed):
    """An upload of small pieces, each its own segment, with pauses."""
    size, seed = int(size), int(seed)
    with connect(address, 7002) as sock:
        progress = Progress()
        write_slowly(sock, size, seed, progress)
        sent(sock, size, seed, progress)


def slow_server_reader(address, size, seed):
    size, seed = int(size), int(seed)
    with connect(address, 7010) as sock:
        for piece in pieces(size, seed):
            sock.sendall(piece)
        sent(sock, size, seed)


def slow_server_writer(address, size, seed):
    size, seed = int(size), int(seed)
    with connect(address, 7011) as sock:
        progress = Progress()
        sock.sendall(f"{size} {seed}\n".encode())
        count, digest, _ = read_all(sock, progress)
    received(size, seed, count, digest, progress)


def pausing_reader(address, size, seed):
    """A download whose reader stops until its window is shut, three times."""
    size, seed = int(size), int(seed)
    with connect(address, 7003, receive_buffer=65536) as sock:
        progress = Progress()
        sock.sendall(f"{size} {seed}\n".encode())
        count, digest = read_with_pauses(sock, size, progress)
    received(size, seed, count, digest, progress)


def pausing_server_reader(address, size, seed):
    """An upload whose reader stops until its window is shut, three times; only the reader counts stalls."""
    size, seed = int(size), int(seed)
    with connect(address, 7012) as sock:
        sock.sendall(f"{size}\n".encode())
        for piece in pieces(size, seed):
            sock.sendall(piece)
        sent(sock, size, seed)


def both(address, size, seed):
    """Uploads and downloads at the same time."""
    failures = []

    def guarded(work):
        try:
            work(address, size, seed)
        except BaseException as error:
            failures.append(f"{work.__name__}: {error}")

    threads = [threading.Thread(target=guarded, args=(work,)) for work in (upload, download)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    must(not failures, "; ".join(failures))


def many(address, count):
    """Keeps `count` connections open at the same time, then sends something else over each and wants it back."""
    count = int(count)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 64)), hard))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    selector = selectors.DefaultSelector()
    pending = {}
    for number in range(count):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        code = sock.connect_ex((address, 7001))
        must(code in (0, errno.EINPROGRESS), f"connection {number}: {errno.errorcode.get(code, code)}")
        selector.register(sock, selectors.EVENT_WRITE, number)
        pending[sock] = None
    deadline = time.monotonic() + DEADLINE
    connected = 0
    while connected < count:
        must(time.monotonic() < deadline, f"only {connected} of {count} connections were made")
        for key, _ in selector.select(timeout=1):
            code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            must(code == 0, f"connection {key.data}: {errno.errorcode.get(code, code)}")
            selector.unregister(key.fileobj)
            connected += 1
    for number, sock in enumerate(pending):
        sock.sendall(f"this is connection {number:06}".encode() * 40)
        selector.register(sock, selectors.EVENT_READ, number)
        pending[sock] = b""
    done = 0
    while done < count:
        must(time.monotonic() < deadline, f"only {done} of {count} connections answered")
        for key, _ in selector.select(timeout=1):
            data = key.fileobj.recv(1 << 16)
            must(data, f"connection {key.data} ended early")
            pending[key.fileobj] += data
            text = f"this is connection {key.data:06}".encode() * 40
            if len(pending[key.fileobj]) >= len(text):
                must(pending[key.fileobj] == text, f"connection {key.data} brought another's data")
                selector.unregister(key.fileobj)
                key.fileobj.close()
                done += 1
    print("ok", count)


def hold_many(address, count):
    """Opens `count` connections, a few hundred at a time, and keeps them; then one byte there and back on each of them."""
    count = int(count)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count + 64)), hard))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    selector = selectors.DefaultSelector()
    socks = []
    connected = 0
    deadline = time.monotonic() + DEADLINE
    while connected < count:
        must(time.monotonic() < deadline, f"only {connected} of {count} connections were made")
        while len(socks) < count and len(socks) - connected < 500:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            code = sock.connect_ex((address, 7013))
            must(code in (0, errno.EINPROGRESS), f"connection {len(socks)}: {errno.errorcode.get(code, code)}")
            selector.register(sock, selectors.EVENT_WRITE, len(socks))
            socks.append(sock)
        for key, _ in selector.select(timeout=1):
            code = key.fileobj.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            must(code == 0, f"connection {key.data}: {errno.errorcode.get(code, code)}")
            selector.unregister(key.fileobj)
            connected += 1
    for number, sock in enumerate(socks):
        must(sock.send(bytes([number % 251])) == 1, f"connection {number} takes nothing")
        selector.register(sock, selectors.EVENT_READ, number)
    answered = 0
    while answered < count:
        must(time.monotonic() < deadline, f"only {answered} of {count} connections answered")
        for key, _ in selector.select(timeout=1):
            data = key.fileobj.recv(10)
            must(data == bytes([key.data % 251]), f"connection {key.data} brought {data!r}")
            selector.unregister(key.fileobj)
            answered += 1
    print(f"ok {count}", flush=True)
    threading.Event().wait()


def udp(address, *sizes):
    """Each size, there and back; zero is a datagram too."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for size in sizes:
        data = b"".join(pieces(int(size), int(size) + 1))
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sock.connect((address, 7001))
            sock.send(data)
            try:
                answer = sock.recv(65535)
            except OSError as error:
                sys.exit(f"failed: {size} bytes: {error}")
            must(answer == data, f"{size} bytes came back as {len(answer)} other ones")
    print("ok", *sizes)


def outcome(kind, address, port, limit="10"):
    """Says how an attempt ends and after how many milliseconds: `refused 3`."""
    start = time.monotonic()
    try:
        if kind == "tcp":
            connect(address, port, float(limit)).close()
            word = "connected"
        else:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(float(limit))
                # Or the kernel keeps all but "port unreachable" to itself, for it may pass.
                level, option = (socket.IPPROTO_IPV6, IPV6_RECVERR) if ":" in address else (socket.IPPROTO_IP, IP_RECVERR)
                sock.setsockopt(level, option, 1)
                sock.connect((address, int(port)))
                sock.send(b"anyone?")
                sock.recv(100)
            word = "answered"
    except TimeoutError as error:
        word = "timeout" if error.errno is None else "kernel-timeout"
    except OSError as error:
        word = {errno.ECONNREFUSED: "refused", errno.EHOSTUNREACH: "unreachable", errno.ENETUNREACH: "unreachable",
                errno.ECONNRESET: "reset", errno.EACCES: "prohibited"}.get(error.errno, str(error))
    print(word, round((time.monotonic() - start) * 1000))


def after_their_end(address, size, seed, token):
    """The server ends its side first; what we send afterwards must still arrive."""
    with connect(address, 7004) as sock:
        sock.sendall(f"{token}\n".encode())
        greeting = read_all(sock)[2]
        must(greeting == b"hello\n", f"the server said {greeting!r}")
        for piece in pieces(int(size), int(seed)):
            sock.sendall(piece)
    answer = ask(address, token)
    must(answer == expected(int(size), int(seed)), f"the server read {answer}")
    print("ok")


def ask(address, token):
    with connect(address, 7005) as sock:
        sock.sendall(f"{token}\n".encode())
        return read_all(sock)[2].decode().strip()


def be_watched(address, token):
    """A connection whose end the server remembers; it has the token, so that a reset cannot overtake that."""
    sock = connect(address, 7008)
    sock.sendall(f"{token}\n".encode())
    greeting = sock.recv(100)
    must(greeting == b"seen\n", f"the server said {greeting!r}")
    return sock


def end(address, how, token):
    """Ends a connection by `reset` or `close` and prints what the server saw."""
    sock = be_watched(address, token)
    if how == "reset":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    print(ask(address, token))


def end_later(address, token):
    """Keeps a connection open until somebody ends it for us; the server remembers how it ended."""
    sock = be_watched(address, token)
    print("holding", flush=True)
    threading.Event().wait()


def print_answer(address, token):
    print(ask(address, token))


def be_reset(address):
    """Prints what we see when the server resets."""
    with connect(address, 7006) as sock:
        sock.sendall(b"now\n")
        try:
            print("end of file" if sock.recv(10) == b"" else "data")
        except ConnectionResetError:
            print("reset")


def stuff(address):
    """Fills a peer that never reads until nothing more goes in; says so and stays."""
    sock = connect(address, 7007)
    sock.settimeout(1)
    sent = 0
    try:
        while True:
            sent += sock.send(b"x" * 65536)
    except TimeoutError:
        print("stuffed", sent, flush=True)
    threading.Event().wait()


def ignore(address):
    """Asks for more data than fits and never reads it; says so and stays."""
    sock = connect(address, 7003)
    sock.sendall(b"1000000000 1\n")
    must(sock.recv(1) != b"", "the server ended")
    print("ignoring", flush=True)
    threading.Event().wait()


def hold(address, port):
    """Keeps a connection open and says how it ends: `reset`, `end of file`."""
    sock = connect(address, port)
    sock.settimeout(None)
    print("holding", flush=True)
    try:
        data = sock.recv(10)
        print("end of file" if data == b"" else "data", flush=True)
    except OSError as error:
        print(errno.errorcode.get(error.errno, str(error)), flush=True)


def who(kind, address, port="7009"):
    """Prints whom the server takes us for."""
    if kind == "tcp":
        with connect(address, port, 5) as sock:
            print(read_all(sock)[2].decode().strip())
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect((address, int(port)))
        sock.send(b"who am I?")
        print(sock.recv(200).decode())


def short_ones(address, count):
    """`count` short connections one after another; prints how many worked."""
    for _ in range(int(count)):
        with connect(address, 7009, 5) as sock:
            must(read_all(sock)[0] > 0, "no answer")
    print("ok", count)


COMMANDS = {
    "upload": upload, "download": download, "both": both, "many": many, "udp": udp, "outcome": outcome,
    "after-their-end": after_their_end, "end": end, "be-reset": be_reset, "end-later": end_later, "ask": print_answer,
    "slow-reader": slow_reader, "slow-writer": slow_writer, "slow-server-reader": slow_server_reader,
    "slow-server-writer": slow_server_writer, "pausing-reader": pausing_reader,
    "pausing-server-reader": pausing_server_reader, "hold-many": hold_many,
    "stuff": stuff, "ignore": ignore, "hold": hold, "who": who, "short": short_ones,
}
COMMANDS[sys.argv[1]](*sys.argv[2:])
