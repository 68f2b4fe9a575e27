#!/usr/bin/env python3
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""device.py tap|tun plain|header NAME COMMAND...

Makes a tap or tun device in the network namespace that it is started in, brings it up, and becomes COMMAND, which
inherits the device: each word "FD" of COMMAND is replaced by the descriptor's number.
"""
import fcntl
import os
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 1, 2, 0x1000, 0x4000

kind, header, name, *command = sys.argv[1:]
flags = (IFF_TAP if kind == "tap" else IFF_TUN) | IFF_NO_PI | (IFF_VNET_HDR if header == "header" else 0)
device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
subprocess.run(["ip", "link", "set", name, "up"], check=True)
os.set_inheritable(device, True)
words = [str(device) if word == "FD" else word for word in command]
os.execvp(words[0], words)
