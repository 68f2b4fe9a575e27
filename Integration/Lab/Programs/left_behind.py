# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Processes whose environment has the given mark, one line each: `PID COMMAND`. With --kill they are ended."""
import os
import signal
import sys

mark = sys.argv[1].encode()
for entry in os.listdir("/proc"):
    if not entry.isdigit() or int(entry) in (os.getpid(), os.getppid()):
        continue
    try:
        with open(f"/proc/{entry}/environ", "rb") as file:
            if mark not in file.read().split(b"\0"):
                continue
        with open(f"/proc/{entry}/cmdline", "rb") as file:
            command = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        continue
    if "--kill" in sys.argv:
        try:
            os.kill(int(entry), signal.SIGKILL)
        except ProcessLookupError:
            pass
    elif command:
        print(entry, command)
