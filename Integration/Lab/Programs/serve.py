# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""The servers of a lab host, in one process; prints "ready" once every one of them listens.

TCP (every connection has a thread of its own):
  7001 echo       sends back what it reads; ends when the peer ends
  7002 sink       reads to the end, then says "BYTES SHA256 MILLISECONDS" and closes: data after the peer's FIN;
                  the last is the longest time without progress
  7003 source     reads "BYTES SEED", sends that many bytes of the pattern, closes
  7004 hang up    reads a token line, sends "hello", shuts its writing side, reads to the end: data after our FIN
  7005 ask        reads a token line, says what became of that token's connection (waits for it)
  7006 reset      reads a line, then resets
  7007 deaf       never reads
  7008 ending     reads a token line, says "seen", remembers whether end of file or a reset came
  7009 who        says "ADDRESS PORT" of its peer
  7010 slow sink  as sink, with a small buffer, little at a time
  7011 slow source  as source, in small pieces
  7012 pausing sink  reads "BYTES", then as sink, but stops three times until its window is shut
  7013 many       echo, all connections in one thread
  8080 HTTP       "hello from the lab" for any request
UDP: 7001 echo, 7009 who.
"""
import hashlib
import os
import resource
import selectors
import socket
import socketserver
import struct
import sys
import threading

from pattern import Progress, pieces, read_slowly, read_with_pauses, write_slowly

CONGESTION_CONTROL = os.environ.get("TAPAS_LAB_CONGESTION", "").encode()
IP_PKTINFO = 8  # ip(7); Python's socket module has no name for it.
results = {}
changed = threading.Condition()
deaf = []


def remember(token, result):
    with changed:
        results[token] = result
        changed.notify_all()


def read_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            break
        line += byte
    return line.decode().strip()


def read_all(sock, progress=None):
    count, digest = 0, hashlib.sha256()
    while True:
        data = sock.recv(1 << 18)
        if progress:
            progress.step()
        if not data:
            return f"{count} {digest.hexdigest()}"
        count += len(data)
        digest.update(data)


def echo(sock):
    while True:
        data = sock.recv(1 << 16)
        if not data:
            return
        sock.sendall(data)


def sink(sock):
    progress = Progress()
    sock.sendall(f"{read_all(sock, progress)} {progress.milliseconds()}\n".encode())


def slow_sink(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    progress = Progress()
    count, digest = read_slowly(sock, progress)
    sock.sendall(f"{count} {digest} {progress.milliseconds()}\n".encode())


def slow_source(sock):
    size, seed = read_line(sock).split()
    write_slowly(sock, int(size), int(seed), Progress())


def pausing_sink(sock):
    size = int(read_line(sock))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    progress = Progress()
    count, digest = read_with_pauses(sock, size, progress)
    sock.sendall(f"{count} {digest} {progress.milliseconds()}\n".encode())


def serve_many():
    """Echo for so many connections that a thread for each would not do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    listener = socket.create_server(("::", 7013), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)

    def serve():
        while True:
            for key, _ in selector.select():
                try:
                    if key.fileobj is listener:
                        sock, _ = listener.accept()
                        selector.register(sock, selectors.EVENT_READ)
                        continue
                    data = key.fileobj.recv(1 << 16)
                    if data:
                        key.fileobj.sendall(data)
                        continue
                except BlockingIOError:
                    continue
                except ConnectionError:
                    pass
                selector.unregister(key.fileobj)
                key.fileobj.close()

    threading.Thread(target=serve, daemon=True).start()


def source(sock):
    size, seed = read_line(sock).split()
    for piece in pieces(int(size), int(seed)):
        sock.sendall(piece)


def hang_up(sock):
    token = read_line(sock)
    sock.sendall(b"hello\n")
    sock.shutdown(socket.SHUT_WR)
    remember(token, read_all(sock))


def ask(sock):
    token = read_line(sock)
    with changed:
        if changed.wait_for(lambda: token in results, timeout=20):
            sock.sendall((results[token] + "\n").encode())
        else:
            sock.sendall(b"nothing yet\n")


def reset(sock):
    read_line(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def never_read(sock):
    deaf.append(sock.dup())


def ending(sock):
    token = read_line(sock)
    sock.sendall(b"seen\n")
    try:
        while sock.recv(1 << 16):
            pass
        remember(token, "end of file")
    except ConnectionResetError:
        remember(token, "reset")


def who(sock):
    host, port = sock.getpeername()[:2]
    sock.sendall(f"{host.removeprefix('::ffff:')} {port}\n".encode())


def http(sock):
    sock.settimeout(10)
    request = b""
    while b"\r\n\r\n" not in request:
        data = sock.recv(4096)
        if not data:
            return
        request += data
    body = b"hello from the lab\n"
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    sock.sendall(head.encode() + body)


SERVICES = {
    7001: echo, 7002: sink, 7003: source, 7004: hang_up, 7005: ask,
    7006: reset, 7007: never_read, 7008: ending, 7009: who, 7010: slow_sink,
    7011: slow_source, 7012: pausing_sink, 8080: http,
}


def serve_udp(sock, answer):
    """Answers from the address that was asked, as RFC 1122 4.1.3.5 wants."""
    while True:
        data, ancillary, _, peer = sock.recvmsg(65535, 256)
        # struct in_pktinfo: interface, then the local address twice; an answer goes out by any interface.
        asked = [
            (level, kind, struct.pack("i", 0) + value[4:] if level == socket.IPPROTO_IP else value[:16] + bytes(4))
            for level, kind, value in ancillary
        ]
        sock.sendmsg([answer(data, peer)], asked, 0, peer)


def main():
    threading.stack_size(256 * 1024)

    class Server(socketserver.ThreadingTCPServer):
        address_family = socket.AF_INET6
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 4096

        def server_bind(self):
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            if CONGESTION_CONTROL:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
            super().server_bind()

        def handle_error(self, request, client_address):
            error = sys.exc_info()[1]
            if not isinstance(error, (ConnectionError, TimeoutError)):
                super().handle_error(request, client_address)

    for port, service in SERVICES.items():
        class Handler(socketserver.BaseRequestHandler):
            serve = staticmethod(service)

            def handle(self):
                self.serve(self.request)

        server = Server(("::", port), Handler)
        if service is never_read:
            server.shutdown_request = lambda request: request.close()
        if service is reset:
            # Closing without shutdown: the lingering time of zero then makes a reset of it.
            server.shutdown_request = lambda request: request.close()
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def name(_, peer):
        return f"{peer[0].removeprefix('::ffff:')} {peer[1]}".encode()

    for port, answer in {7001: lambda data, _: data, 7009: name}.items():
        for family, any_address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            sock = socket.socket(family, socket.SOCK_DGRAM)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            sock.bind((any_address, port))
            threading.Thread(target=serve_udp, args=(sock, answer), daemon=True).start()

    serve_many()
    print("ready", flush=True)
    threading.Event().wait()


main()
