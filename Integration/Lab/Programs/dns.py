# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""A name server for one address: `dns.py ADDRESS ANSWER` answers each A question with ANSWER, over UDP and TCP."""
import socket
import struct
import sys

from name_server import serve


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


serve(sys.argv[1], lambda query, _: answer(query, sys.argv[2]))
