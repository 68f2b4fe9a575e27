# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Bytes that both ends can make: a seeded block whose length is a prime, repeated.

A prime, so that a piece that is lost, doubled or moved by any usual buffer size changes the digest.
"""
import array
import fcntl
import hashlib
import random
import socket
import termios
import time

BLOCK = 1048573


class Progress:
    """The longest time between two steps of a transfer whose both ends are willing."""

    def __init__(self):
        self.last = time.monotonic()
        self.longest = 0

    def step(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now

    def resume(self):
        """What was before was a pause of our own."""
        self.last = time.monotonic()

    def milliseconds(self):
        return round(self.longest * 1000)


def pieces(size, seed):
    """Yields the first `size` bytes of the pattern of `seed`."""
    block = random.Random(seed).randbytes(BLOCK)
    while size > 0:
        piece = block if size >= BLOCK else block[:size]
        yield piece
        size -= len(piece)


def read_slowly(sock, progress):
    """Reads to the end, little at a time; returns count and digest."""
    random_sizes = random.Random(1)
    count, digest = 0, hashlib.sha256()
    while True:
        time.sleep(0.001)
        data = sock.recv(random_sizes.randint(1, 20000))
        progress.step()
        if not data:
            return count, digest.hexdigest()
        count += len(data)
        digest.update(data)


def write_slowly(sock, size, seed, progress):
    """Writes the pattern in small pieces, each on its own, with pauses."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    random_sizes = random.Random(2)
    for piece in pieces(size, seed):
        view = memoryview(piece)
        while view:
            time.sleep(0.0005)
            view = view[sock.send(view[:random_sizes.randint(1, 3000)]):]
            progress.step()


def wait_until_shut(sock):
    """Waits until nothing more comes: what waits to be read has not grown for a third of a second."""
    waiting, since = -1, time.monotonic()
    while time.monotonic() - since < 0.33:
        now = array.array("i", [0])
        fcntl.ioctl(sock.fileno(), termios.FIONREAD, now)
        if now[0] != waiting:
            waiting, since = now[0], time.monotonic()
        time.sleep(0.005)
    return waiting


def read_with_pauses(sock, size, progress):
    """Reads to the end, but waits three times on the way until the window is shut; returns count and digest."""
    count, digest, pauses = 0, hashlib.sha256(), 0
    while True:
        if pauses < 3 and count >= size // 4 * pauses:
            if wait_until_shut(sock) == 0:
                return 0, "nothing came"
            pauses += 1
            progress.resume()
        data = sock.recv(1 << 16)
        progress.step()
        if not data:
            return count, digest.hexdigest()
        count += len(data)
        digest.update(data)
