# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""The part of allocations.sh inside the lab: transfers through tapas with its allocator's calls counted."""

import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "Bench"))

import lab  # noqa: E402
import subjects  # noqa: E402

#: Allocations for each frame that pass: the control plane, which counts too, does a little now and then.
LIMIT = 0.001
#: Seconds after the start in which the control plane takes its first looks at the host.
START = 4
SECONDS = 1
TRANSFERS = [
    ("TCP out", ["-l", "128K"]), ("TCP in", ["-R"]), ("TCP out, 4 streams", ["-P", "4"]),
    ("TCP in, 4 streams", ["-R", "-P", "4"]),
    ("UDP out", ["-u", "-l", "1400", "-b", "500M"]), ("UDP in", ["-u", "-l", "1400", "-b", "500M", "-R"]),
    ("UDP out, small", ["-u", "-l", "100", "-b", "20M"]), ("UDP in, small", ["-u", "-l", "100", "-b", "20M", "-R"]),
]


class Counts:
    """The counters in the file that the program shares."""

    def __init__(self, path):
        self.file = open(path, "w+b", buffering=0)
        self.file.write(bytes(16))
        os.chmod(path, 0o666)

    def read(self):
        return struct.unpack("QQ", os.pread(self.file.fileno(), 16, 0))


def frames(place):
    """Frames over the guest's interface so far, both ways."""
    output = place.run(place.enter("guest") + ["cat", "/proc/net/dev"])
    fields = next(line for line in output.splitlines() if line.strip().startswith("eth0:")).split(":")[1].split()
    return int(fields[1]) + int(fields[9])


def main(folder):
    failed = False
    # With the offloads a larger MTU takes the same way. Every namespace may choose reno, whatever the machine allows.
    for mtu in (1500,):
        with lab.Lab(os.environ["TAPAS_LAB_DIRECTORY"], link_mtu=1500, congestion="reno") as place:
            counts = Counts(os.path.join(place.directory, "counts"))
            environment = [f"LD_PRELOAD={folder}/count.so", f"TAPAS_ALLOCATION_COUNTS={place.directory}/counts"]
            subject = subjects.Pasta("tapas", f"{folder}/tapas")
            subject.prefix = ["env"] + environment
            subject.attach(place, mtu, [])
            if counts.read()[0] == 0:
                sys.exit("allocations: nothing is counted: the counter was not loaded")
            place.iperf_server("far")
            place.iperf("guest", lab.FAR4, START)
            for name, words in TRANSFERS:
                for warm_up in (True, False):
                    server = place.iperf_server("far")
                    before, frames_before = counts.read(), frames(place)
                    place.iperf("guest", lab.FAR4, 1 if warm_up else SECONDS, *words)
                    after, frames_after = counts.read(), frames(place)
                    server.wait(10)
                taken, given, seen = after[0] - before[0], after[1] - before[1], frames_after - frames_before
                verdict = "ok" if seen > 1000 and max(taken, given) <= LIMIT * seen else "TOO MANY"
                failed = failed or verdict != "ok"
                print(f"MTU {mtu:5}, {name:20} {seen:8} frames, {taken:5} allocations, {given:5} frees: {verdict}",
                      flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
