# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""A client of upstream's protocol for forwarding rules, version 2, written from its description.

pesto.py PATH show                     prints what the server sends, a line for each rule
pesto.py PATH set TABLE RULE...        replaces a table ("HOST" or "SPLICE"); TABLE may come again
pesto.py PATH raw HEX                  sends these bytes in place of tables
pesto.py PATH silent                   reads nothing, sends nothing, until it is ended

A RULE is PROTOCOL,ADDRESS,FIRST,LAST,TO,TARGET[,FLAGS]: "tcp,*,8080,8080,80,-". Whatever is not as described ends the
program with an error.
"""

import ipaddress
import socket
import struct
import sys

RULE = struct.Struct("!16s16s16sHHHBB")
assert RULE.size == 56
TABLES = {"HOST": 1, "SPLICE": 3}


def mapped(text):
    if text in ("*", "-"):
        return bytes(16)
    address = ipaddress.ip_address(text)
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def text(packed, wildcard):
    address = ipaddress.IPv6Address(packed)
    if address == ipaddress.IPv6Address("::"):
        return wildcard
    return str(address.ipv4_mapped or address)


def rule(line):
    protocol, address, first, last, to, target, *flags = line.split(",")
    flags = int(flags[0]) if flags else (1 if address == "*" else 0)
    return RULE.pack(
        mapped(address), mapped(target), b"", int(first), int(last), int(to), {"tcp": 6, "udp": 17}[protocol], flags
    )


def receive(sock, count):
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            sys.exit(f"the server ended after {data!r}, {count} bytes were expected")
        data += more
    return data


def greeting(sock):
    """What the server sends: tables by name, each with capabilities and rules."""
    magic, version, name_size, interface_size = struct.unpack("!8sIII", receive(sock, 20))
    assert magic == b"basil:s\0", magic
    assert (version, name_size, interface_size) == (2, 128, 16), (version, name_size, interface_size)
    tables = {}
    while number := receive(sock, 1)[0]:
        name, capabilities, count = struct.unpack("!128sII", receive(sock, 136))
        name = name.rstrip(b"\0").decode()
        assert TABLES[name] == number, (name, number)
        assert count <= 256, count
        tables[name] = (capabilities, [RULE.unpack(receive(sock, RULE.size)) for _ in range(count)])
    return tables


def main(path, command, *arguments):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect(path)
    if command == "silent":
        print("ready", flush=True)
        sys.stdin.read()
        return
    tables = greeting(sock)
    if command == "show":
        for name, (capabilities, rules) in tables.items():
            print(f"{name} {capabilities:#x}")
            for address, target, interface, first, last, to, protocol, flags in rules:
                device = interface.rstrip(b"\0").decode()
                print(
                    {6: "tcp", 17: "udp"}[protocol], text(address, "*" if flags & 1 else "::"), device or "-",
                    f"{first}-{last}", to, text(target, "-"), flags,
                )
    elif command == "raw":
        sock.sendall(bytes.fromhex(arguments[0]))
    elif command == "set":
        sent = b""
        groups = []
        for argument in arguments:
            if argument in TABLES:
                groups.append((TABLES[argument], []))
            else:
                groups[-1][1].append(rule(argument))
        for number, rules in groups:
            sent += struct.pack("!BI", number, len(rules)) + b"".join(rules)
        sock.sendall(sent + b"\0")
    sock.shutdown(socket.SHUT_WR)
    # The server closes when it has done what was asked, or has refused it.
    assert sock.recv(1) == b"", "the server says more than it should"


if len(sys.argv) < 3:
    sys.exit(__doc__)
main(*sys.argv[1:])
