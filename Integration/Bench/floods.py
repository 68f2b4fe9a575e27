# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Rows about floods and greedy peers (issue 19): what they leave to everybody else."""

import json
import os
import statistics
import time

import lab
import machine

REQUEST_PORT, FLOOD_PORT, DEAF_PORT, DRAIN_PORT = 7007, 7300, 7400, 7500
#: A request that takes longer than this is not normal: the kernel repeats a SYN after a second.
SLOW = 0.2


def start_flood(place, where, *arguments, ready=True):
    """Starts flood.py in a place."""
    program = os.path.join(os.path.dirname(os.environ["TAPAS_BENCH_LOAD"]), "flood.py")
    process = place.start(where, ["/usr/bin/python3", program] + list(arguments), record=True)
    if ready and process.stdout.readline() != "ready\n":
        raise lab.LabError(f"flood.py {arguments}: {lab.errors(process)}")
    return process


class Flooded:
    """Requests, one after the other, before, during and after a flood from the namespace."""

    congestion, quick = "cubic", False
    value, unit, less_is_better = "share", "of undisturbed", False
    targets = ()

    def __init__(self, name, explanation, targets, kind, rate, count, loopback=False):
        self.name, self.explanation, self.targets = name, explanation, targets
        self.kind, self.rate, self.count, self.loopback = kind, rate, count, loopback

    def not_for(self, subject):
        return {"bare": "the flood itself is what is limited", "slirp": "not measured"}.get(subject)

    def run(self, place, subject, options):
        pid = subject.attach(place, 65520, [], maps_gateway=self.loopback)
        place.serve("far", "request-server", REQUEST_PORT, 1)
        start_flood(place, "host" if self.loopback else "far", "serve", str(FLOOD_PORT))
        target = lab.GATEWAY4 if self.loopback else lab.FAR4
        arguments = [self.kind, "eth0", str(self.rate), str(self.count), "192.0.2.200", target]
        if self.kind == "syn":
            arguments.append(str(FLOOD_PORT))
        else:
            arguments[4] = lab.HOST4
        flood_seconds = self.count / self.rate if self.rate else 6
        client = place.load("guest", "timeline", lab.FAR4, REQUEST_PORT, flood_seconds + 9)
        begin = time.monotonic()
        lab.eventually(lambda: time.monotonic() > begin + 1.5, "the undisturbed rate is known", 5)
        flood = start_flood(place, "guest", *arguments)
        used, dropped = machine.cpu_seconds(pid), self.dropped(place)
        words = flood.communicate(timeout=60)[0].split()
        used = machine.cpu_seconds(pid) - used
        start, end = float(words[words.index("from") + 1]), float(words[words.index("to") + 1])
        requests = place.result(client, flood_seconds + 40)["requests"]
        return dict(self.figures(requests, start, end), cpu_share=used / (end - start),
                    dropped=self.dropped(place) - dropped, sent=self.count)

    @staticmethod
    def dropped(place):
        """Frames that the namespace's kernel has dropped because the tap's queue was full."""
        shown = json.loads(place.run(place.enter("guest") + ["ip", "-j", "-s", "link", "show", "eth0"]))
        return shown[0]["stats64"]["tx"]["dropped"]

    @staticmethod
    def figures(requests, start, end):
        def rate(since, until):
            done = sum(1 for at, took in requests if took is not None and since <= at + took < until)
            return done / max(until - since, 0.05)

        # On a machine that others use, too, what is undisturbed wanders: all the time but the flood's counts.
        first, last = requests[0][0] + 0.3, max(at for at, _ in requests)
        before, during, after = rate(first, start), rate(start, end), rate(end + 2, last)
        quiet = start - first, last - end - 2
        undisturbed = (before * quiet[0] + after * quiet[1]) / sum(quiet)
        late = [at + (took or 8) for at, took in requests if at + (took or 8) > end and (took is None or took > SLOW)]
        return {"share": during / undisturbed, "recovery_s": max(max(late, default=end) - end, 0), "before": before,
                "during": during, "after": after, "flood_s": end - start,
                "failed": sum(1 for at, took in requests if took is None)}


class Upload:
    """An upload beside many to a server that does not read, relative to the same upload before and after them.

    The send buffers of the namespace's own programs are bounded: by default 300 that are full hold more than the memory
    that the kernel gives to TCP on the whole machine (net.ipv4.tcp_mem), and then every connection is slow, with or
    without a translator.
    """

    SEND_BUFFERS = "net.ipv4.tcp_wmem=4096 16384 131072"

    congestion, quick = "cubic", False
    value, unit, less_is_better = "share", "of alone", False

    def __init__(self, count, targets):
        self.count, self.targets = count, targets
        self.name = f"upload-beside-{count}"
        self.explanation = f"TCP out, MTU 65520, beside {count} uploads that nobody reads, relative to it alone"

    def not_for(self, subject):
        return {"slirp": "not measured"}.get(subject)

    def run(self, place, subject, options):
        subject.attach(place, 65520, [])
        for where in "guest", "far":
            place.run(place.enter(where) + ["sysctl", "-q", "-w", self.SEND_BUFFERS])
        start_flood(place, "far", "deaf", str(DEAF_PORT))
        start_flood(place, "far", "drain", str(DRAIN_PORT))

        def speed():
            speeds = []
            for _ in range(3):
                process = start_flood(
                    place, "guest", "push", lab.FAR4, str(DRAIN_PORT), str(options.seconds), ready=False)
                speeds.append(float(process.communicate(timeout=60)[0].split()[0]))
            return statistics.median(speeds)

        before = speed()
        stuck = start_flood(place, "guest", "stuck", lab.FAR4, str(DEAF_PORT), str(self.count), str(4 << 20))
        beside = speed()
        # Connections that are left to themselves would hold their memory for minutes.
        stuck.terminate()
        stuck.wait()
        after = speed()
        return {"share": beside * 2 / (before + after), "gbit": beside, "before_gbit": before, "after_gbit": after}


class FanOut:
    """New UDP flows a second from one port of the namespace, by how many there are."""

    congestion, quick = "cubic", False
    value, unit, less_is_better = "last_per_second", "flows/s", False
    targets = ()

    def __init__(self, count, targets):
        self.count, self.targets = count, targets
        self.name = f"udp-flows-{count}"
        self.explanation = f"new UDP flows from one source port a second, the last thousand of {count}, each answered"

    def not_for(self, subject):
        return {"slirp": "not measured"}.get(subject)

    def run(self, place, subject, options):
        subject.attach(place, 65520, [])
        place.run(place.enter("far") + ["ip", "route", "add", "local", "198.18.0.0/15", "dev", "lo"])
        place.serve("far", "address-server", REQUEST_PORT)
        result = place.result(place.load("guest", "fan-out", REQUEST_PORT, self.count, 1000), 120)
        rates = result["per_second"]
        return {"last_per_second": rates[-1], "first_per_second": rates[0], "least_per_second": min(rates),
                "lost": result["lost"]}


def build(target):
    """The rows; `target` makes a target."""
    half = [target(None, 0.5), target(None, 2, value="recovery_s", at_most=True)]
    return [
        Flooded("flood-syn", "requests during 50,000 SYNs at 10,000/s to a reachable port", half, "syn", 10_000, 50_000),
        Flooded("flood-syn-loopback", "the same to the host's loopback mapping", half, "syn", 10_000, 50_000, True),
        Flooded("flood-syn-burst", "requests during 500,000 SYNs as fast as can be", half, "syn", 0, 500_000),
        Flooded("flood-echo", "requests during 200,000 echo requests as fast as can be", half, "echo", 0, 200_000),
        Upload(300, [target(None, 0.5)]), Upload(1000, [target(None, 0.5)]),
        FanOut(18_000, [target(None, 1800)]),
    ]
