# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Runs a command on a terminal of its own and types: `terminal.py WAIT-FOR:TYPE... -- COMMAND...`.

Each WAIT-FOR:TYPE waits until the text appears in what the command wrote since the step before, then types; \\n, ^C and ^Z
stand for the keys. Prints all that the terminal showed, then `status N` (128 + signal when one ended it).
"""
import os
import pty
import select
import sys
import time

split = sys.argv.index("--")
steps, command = [step.split(":", 1) for step in sys.argv[1:split]], sys.argv[split + 1:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)

shown, since, deadline = b"", 0, time.monotonic() + 20
while True:
    while steps and steps[0][0].encode() in shown[since:]:
        text = steps.pop(0)[1].replace("\\n", "\n").replace("^C", "\x03").replace("^Z", "\x1a")
        since = len(shown)
        os.write(terminal, text.encode())
    ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
    if not ready:
        os.kill(child, 9)
        print("terminal: gave up", "waiting for " + repr(steps[0][0]) if steps else "waiting for the end")
        break
    try:
        data = os.read(terminal, 4096)
    except OSError:
        break
    if not data:
        break
    shown += data
_, status = os.waitpid(child, 0)
sys.stdout.write(shown.decode(errors="replace").replace("\r\n", "\n"))
print("status", os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
