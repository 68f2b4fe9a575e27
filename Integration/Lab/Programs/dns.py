# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""A name server for one address: `dns.py ADDRESS ANSWER` answers each A question with ANSWER, over UDP and TCP."""
import socket
import struct
import sys
import threading


def answer(query, address):
    end = 12
    while query[end] != 0:
        end += 1 + query[end]
    question = query[12:end + 5]
    kind = struct.unpack("!H", question[-4:-2])[0]
    count = 1 if kind == 1 else 0
    head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, count, 0, 0)
    record = struct.pack("!HHHIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address)
    return head + question + (record if count else b"")


def exactly(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def serve_stream(sock, address):
    try:
        while True:
            length = struct.unpack("!H", exactly(sock, 2))[0]
            reply = answer(exactly(sock, length), address)
            sock.sendall(struct.pack("!H", len(reply)) + reply)
    except (EOFError, OSError):
        sock.close()


def accept(listener, address):
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve_stream, args=(sock, address), daemon=True).start()


where, address = sys.argv[1:3]
family = socket.AF_INET6 if ":" in where else socket.AF_INET
listener = socket.socket(family, socket.SOCK_STREAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((where, 53))
listener.listen(16)
datagrams = socket.socket(family, socket.SOCK_DGRAM)
datagrams.bind((where, 53))
threading.Thread(target=accept, args=(listener, address), daemon=True).start()
print("ready", flush=True)
while True:
    query, peer = datagrams.recvfrom(4096)
    datagrams.sendto(answer(query, address), peer)
