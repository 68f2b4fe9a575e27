# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Stops one thread of a process, by name, until this program ends: `freeze_thread.py PID NAME`; prints "frozen".

The thread is stopped as a debugger stops it (ptrace(2)); the process's other threads go on.
"""
import ctypes
import os
import signal
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread):
    if libc.ptrace(request, thread, None, None) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"ptrace, thread {thread}")


def thread_named(process, name):
    for thread in os.listdir(f"/proc/{process}/task"):
        with open(f"/proc/{process}/task/{thread}/comm") as file:
            if file.read().strip() == name[:15]:
                return int(thread)
    sys.exit(f"process {process} has no thread called {name}")


thread = thread_named(sys.argv[1], sys.argv[2])
ptrace(PTRACE_SEIZE, thread)
ptrace(PTRACE_INTERRUPT, thread)
os.waitpid(thread, WALL)
print("frozen", flush=True)
signal.pause()
