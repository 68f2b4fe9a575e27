# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""A name server with a zone: `zone.py ADDRESS NAME=RECORD[,RECORD...]...`, over UDP and TCP.

A record is an address, `>NAME` for a CNAME, or `xCOUNT` for that many addresses from 198.18.0.0 on. The time to live
is 1 s. Other names do not exist. Each query is written to standard output: "asked NAME TYPE udp|tcp".
"""
import ipaddress
import struct
import sys

from name_server import serve


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def read_name(query):
    labels, position = [], 12
    while query[position]:
        length = query[position]
        labels.append(query[position + 1:position + 1 + length].decode("latin-1").lower())
        position += 1 + length
    return ".".join(labels), position + 1


def records_of(zone, name, kind):
    """The answer section of a name, CNAMEs followed; nil if the name does not exist."""
    if name not in zone:
        return None
    found = []
    for record in zone[name]:
        if record.startswith(">"):
            found.append((name, 5, wire(record[1:])))
            found += records_of(zone, record[1:], kind) or []
        elif record.startswith("x"):
            first = ipaddress.ip_address("198.18.0.0")
            if kind == 1:
                found += [(name, 1, (first + number).packed) for number in range(int(record[1:]))]
        else:
            address = ipaddress.ip_address(record)
            if kind == (1 if address.version == 4 else 28):
                found.append((name, kind, address.packed))
    return found


def answer(zone, query, transport):
    name, end = read_name(query)
    kind = struct.unpack("!H", query[end:end + 2])[0]
    print("asked", name or ".", kind, transport, flush=True)
    records = records_of(zone, name, kind)
    body = b"".join(
        wire(owner) + struct.pack("!HHIH", type_, 1, 1, len(data)) + data for owner, type_, data in records or [])
    flags, count = 0x8580 | (3 if records is None else 0), len(records or [])
    if transport == "udp" and len(body) > 1200:
        flags, count, body = flags | 0x0200, 0, b""
    return query[:2] + struct.pack("!HHHHH", flags, 1, count, 0, 0) + query[12:end + 4] + body


ZONE = {part.split("=")[0]: part.split("=")[1].split(",") for part in sys.argv[2:]}
serve(sys.argv[1], lambda query, transport: answer(ZONE, query, transport))
