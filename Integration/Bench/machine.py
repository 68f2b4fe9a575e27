# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""What is read of the machine: how idle it is, CPU time and memory of processes, and its description."""

import glob
import os
import platform
import subprocess
import time

TICK = os.sysconf("SC_CLK_TCK")


def cpu_times():
    """Busy and total CPU seconds of the machine; time of niced processes counts as idle."""
    with open("/proc/stat") as file:
        fields = [int(text) for text in file.readline().split()[1:9]]
    user, nice, system, idle, waiting, irq, softirq, steal = fields
    busy = user + system + irq + softirq + steal
    return busy / TICK, (busy + nice + idle + waiting) / TICK


def idle_share(seconds):
    """The share of the machine that was idle in the next so many seconds."""
    busy, total = cpu_times()
    time.sleep(seconds)
    busy2, total2 = cpu_times()
    return 1 - (busy2 - busy) / max(total2 - total, 1e-9)


def wait_until_idle(share, patience):
    """Waits until so much of the machine is idle; returns the share seen last and the seconds waited."""
    start = time.monotonic()
    window = 0.3 if share > 0 else 0.1
    while True:
        seen = idle_share(window)
        waited = time.monotonic() - start
        if seen >= share or waited > patience:
            return seen, waited


def process_tree(pid):
    """A process and its descendants."""
    children = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as file:
                text = file.read()
        except OSError:
            continue
        fields = text.rsplit(")", 1)[1].split()
        children.setdefault(int(fields[1]), []).append(int(path.split("/")[2]))
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return found


def cpu_seconds(pid):
    """CPU seconds that a process has used, over all its threads, in nanosecond resolution."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            with open(path) as file:
                total += int(file.read().split()[0])
        except OSError:
            continue
    return total / 1e9


def cpu_seconds_when_idle(pid, quiet=0.3, patience=10):
    """CPU seconds that a process has used, once it uses less than a millisecond in `quiet` seconds."""
    deadline = time.monotonic() + patience
    used = cpu_seconds(pid)
    while time.monotonic() < deadline:
        time.sleep(quiet)
        before, used = used, cpu_seconds(pid)
        if used - before < 0.001:
            break
    return used


def memory(pid):
    """Memory of a process in KiB: resident, resident without file pages, and the proportional share of its tree."""
    values = {"rss_kib": 0, "anonymous_kib": 0, "tree_pss_kib": 0}
    for one in process_tree(pid):
        rollup = {}
        try:
            with open(f"/proc/{one}/smaps_rollup") as file:
                for line in file.readlines()[1:]:
                    key, value = line.split()[:2]
                    rollup[key] = int(value)
        except OSError:
            # Not dumpable: statm tells the resident size only.
            with open(f"/proc/{one}/statm") as file:
                fields = file.read().split()
            page = os.sysconf("SC_PAGE_SIZE") // 1024
            rollup = {"Rss:": int(fields[1]) * page, "Anonymous:": (int(fields[1]) - int(fields[2])) * page,
                      "Pss:": int(fields[1]) * page}
        if one == pid:
            values["rss_kib"] = rollup["Rss:"]
            values["anonymous_kib"] = rollup["Anonymous:"]
        values["tree_pss_kib"] += rollup["Pss:"]
    return values


def first_line(command):
    """The first line that a command prints, or why there is none."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except OSError as error:
        return str(error)
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0] if lines else ""


def description():
    """The machine, for the head of a report."""
    model = ""
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    with open("/proc/meminfo") as file:
        memory_kib = int(file.readline().split()[1])
    distribution = ""
    with open("/etc/os-release") as file:
        for line in file:
            if line.startswith("PRETTY_NAME="):
                distribution = line.split("=", 1)[1].strip().strip('"')
    return {
        "cpu": model, "cores": os.cpu_count(), "memory_mib": memory_kib // 1024,
        "kernel": platform.release(), "distribution": distribution,
    }
