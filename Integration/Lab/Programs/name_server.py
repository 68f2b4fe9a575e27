# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""What the lab's name servers share: messages over UDP and TCP, and where they come from."""
import socket
import struct
import threading


def exactly(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def serve(where, answer):
    """Answers queries at port 53 of an address for ever; `answer` takes a query and "udp" or "tcp"."""
    family = socket.AF_INET6 if ":" in where else socket.AF_INET
    streams = socket.socket(family, socket.SOCK_STREAM)
    streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    streams.bind((where, 53))
    streams.listen(16)
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((where, 53))

    def serve_stream(sock):
        try:
            while True:
                length = struct.unpack("!H", exactly(sock, 2))[0]
                reply = answer(exactly(sock, length), "tcp")
                sock.sendall(struct.pack("!H", len(reply)) + reply)
        except (EOFError, OSError):
            sock.close()

    def accept():
        while True:
            sock, _ = streams.accept()
            threading.Thread(target=serve_stream, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    print("ready", flush=True)
    while True:
        query, peer = datagrams.recvfrom(4096)
        datagrams.sendto(answer(query, "udp"), peer)
