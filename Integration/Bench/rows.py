# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""The rows: what is measured, with the targets of the performance issue that hold for each."""

import os
import time

import floods
import lab
import machine

PORT = 5201  # iperf3's own
OTHER_PORT = 7007
FLOWS = 10_000


class Target:
    """What a row is to reach: `of` names the subject compared with (None: absolute), `least` or `most` the limit."""

    def __init__(self, of, floor, goal=None, value=None, at_most=False):
        self.of, self.floor, self.goal, self.value, self.at_most = of, floor, goal, value, at_most


class Row:
    """One measurement."""

    congestion = "cubic"
    quick = False
    #: The value that is compared, its unit, and whether less is better.
    value, unit, less_is_better = "gbit", "Gbit/s", False
    targets = ()
    absent = {}

    def not_for(self, subject):
        """Why there is nothing to measure for a subject; None if there is."""
        return self.absent.get(subject)


def metered(pid, transfer):
    """Runs a transfer; its values with the translator's and the machine's CPU seconds for each GB."""
    own = machine.cpu_seconds(pid) if pid else 0
    busy, _ = machine.cpu_times()
    values = transfer()
    busy_after, _ = machine.cpu_times()
    gigabytes = values.pop("bytes") / 1e9
    if gigabytes > 0:
        if pid:
            values["cpu_s_gb"] = (machine.cpu_seconds(pid) - own) / gigabytes
        values["machine_s_gb"] = (busy_after - busy) / gigabytes
    return values


def tcp_values(result):
    end = result["end"]
    used = end["cpu_utilization_percent"]
    gigabytes = max(end["sum_received"]["bytes"] / 1e9, 1e-9)
    return {"gbit": end["sum_received"]["bits_per_second"] / 1e9, "bytes": end["sum_received"]["bytes"],
            "retransmits": end["sum_sent"].get("retransmits", 0),
            "ends_s_gb": (used["host_total"] + used["remote_total"]) / 100 * end["sum_sent"]["seconds"] / gigabytes}


class TCP(Row):
    """A transfer between the guest and the far server, in or out through the tap."""

    def __init__(self, family, direction, mtu, congestion, streams):
        self.name = f"tcp{family}-{direction}-{mtu}-{congestion}" + (f"-{streams}x" if streams > 1 else "")
        self.explanation = f"TCP over IPv{family}, {direction}, MTU {mtu}, {congestion}, {streams} stream(s)"
        self.family, self.direction, self.mtu, self.streams = family, direction, mtu, streams
        self.congestion = congestion
        self.quick = streams == 1 and family == 4 and congestion == "cubic" and mtu != 9000
        self.targets = [Target("bare", 0.55 if streams > 1 else 0.5, 0.65)]
        if streams == 1:
            self.targets += {
                ("out", 65520): [Target("pasta", 5)], ("out", 1500): [Target("pasta", 20)],
                ("in", 65520): [Target("pasta", 1.5), Target("pasta", 0.6, value="cpu_s_gb", at_most=True),
                                Target(None, 0.27, value="cpu_s_gb", at_most=True)],
                ("in", 1500): [Target("pasta", 10)],
            }.get((direction, mtu), [])

    def run(self, place, subject, options):
        pid = subject.attach(place, self.mtu, [])
        place.iperf_server("far")
        words = (["-R"] if self.direction == "in" else []) + (["-P", str(self.streams)] if self.streams > 1 else [])
        address = lab.FAR4 if self.family == 4 else lab.FAR6
        return metered(pid, lambda: tcp_values(place.iperf("guest", address, options.seconds, *words)))


class Forwarded(Row):
    """A transfer from or to a server in the guest, through a forwarded port, for a client on another host."""

    def __init__(self, direction, mtu):
        self.name = f"forwarded-{direction}-{mtu}"
        self.explanation = f"TCP through a forwarded port from another host, data {direction}, MTU {mtu}"
        self.direction, self.mtu = direction, mtu
        self.quick = mtu == 65520 and direction == "in"
        self.targets = [Target("bare", 0.5, 0.65)]

    def run(self, place, subject, options):
        pid = subject.attach(place, self.mtu, [("in", "tcp", PORT)])
        place.iperf_server("guest")
        words = ["-R"] if self.direction == "out" else []
        return metered(pid, lambda: tcp_values(place.iperf("far", lab.HOST4, options.seconds, *words)))


class Spliced(Row):
    """A transfer between the loopbacks of guest and host."""

    def __init__(self, direction):
        self.name = f"loopback-{direction}"
        self.explanation = {
            "out": "TCP from the guest's 127.0.0.1 to the host's (-T; slirp4netns: its 10.0.2.2)",
            "in": "TCP from the host's 127.0.0.1 to the guest (-t; slirp4netns: add_hostfwd)",
        }[direction]
        self.direction = direction
        self.quick = True
        self.targets = [Target("pasta", 0.95, 1.05)]

    def run(self, place, subject, options):
        pid = subject.attach(place, 65520, [(self.direction, "tcp", PORT)])
        server, client = ("host", "guest") if self.direction == "out" else ("guest", "host")
        address = "127.0.0.1"
        if self.direction == "out" and subject.host_loopback:
            address = subject.host_loopback
        place.iperf_server(server)
        return metered(pid, lambda: tcp_values(place.iperf(client, address, options.seconds)))


class UDP(Row):
    """Datagrams of 1400 bytes."""

    def __init__(self, direction, rate):
        paced = "1G" if rate else "max"
        self.name = f"udp-{direction}-{paced}"
        self.explanation = f"UDP, 1400 bytes, {direction}, " + ("paced at 1 Gbit/s" if rate else "unlimited offer")
        self.direction, self.rate = direction, rate
        self.quick = True
        if rate:
            self.value, self.unit, self.less_is_better = "loss_percent", "% lost", True
            self.targets = [Target("pasta", 1, value="loss_percent", at_most=True),
                            Target(None, 0.5, value="loss_percent", at_most=True),
                            Target("pasta", 0.6, value="cpu_s_gb", at_most=True)]
        elif direction == "out":
            self.targets = [Target("bare", 0.5, 0.6), Target("pasta", 1.4)]
        else:
            self.targets = [Target("bare", 0.7, 0.85), Target("pasta", 2)]

    def run(self, place, subject, options):
        pid = subject.attach(place, 1500, [])
        place.iperf_server("far")
        words = ["-u", "-l", "1400", "-b", "1G" if self.rate else "0"] + (["-R"] if self.direction == "in" else [])

        def transfer():
            total = place.iperf("guest", lab.FAR4, options.seconds, *words)["end"]["sum"]
            share = 1 - total["lost_percent"] / 100
            seconds = total["seconds"]
            received = total["packets"] * share * 1400
            return {"gbit": received * 8 / seconds / 1e9, "loss_percent": total["lost_percent"], "bytes": received}

        return metered(pid, transfer)


class Latency(Row):
    """Round trips of one byte."""

    value, unit, less_is_better = "median_us", "us", True
    quick = True

    def __init__(self, name, explanation, server, client, targets):
        self.name, self.explanation, self.server, self.client, self.targets = name, explanation, server, client, targets

    def run(self, place, subject, options):
        subject.attach(place, 65520, [])
        place.serve("far", self.server, OTHER_PORT, cpu=0)
        client = place.load("guest", self.client, lab.FAR4, OTHER_PORT, options.seconds, cpu=1)
        result = place.result(client, options.seconds + 20)
        return {"median_us": result["median_us"], "p99_us": result["p99_us"]}


class Requests(Row):
    """Connections made, used for a request and a response, and closed, for each second; two clients, two servers."""

    value, unit = "per_second", "/s"
    quick = True

    def __init__(self, name, explanation, spliced=False):
        self.name, self.explanation, self.spliced = name, explanation, spliced
        self.targets = [Target("pasta", 1)]

    def run(self, place, subject, options):
        pid = subject.attach(place, 65520, [("out", "tcp", OTHER_PORT)] if self.spliced else [])
        server, address = "far", lab.FAR4
        if self.spliced:
            server, address = "host", subject.host_loopback or "127.0.0.1"
        place.serve(server, "request-server", OTHER_PORT, 2)
        before = machine.cpu_seconds(pid) if pid else 0
        client = place.load("guest", "request", address, OTHER_PORT, options.seconds, 2)
        result = place.result(client, options.seconds + 30)
        values = {"per_second": result["per_second"]}
        if pid:
            values["cpu_us_each"] = (machine.cpu_seconds(pid) - before) / result["count"] * 1e6
        return values


class Start(Row):
    """From start to exit of a command in a connected namespace, or of `--version`."""

    value, unit, less_is_better = "median_ms", "ms", True
    quick = True

    def __init__(self, name, explanation, of_version, targets):
        self.name, self.explanation, self.of_version, self.targets = name, explanation, of_version, targets
        if not of_version:
            self.absent = {"slirp": "has no such mode"}

    def run(self, place, subject, options):
        command = subject.version_command() if self.of_version else subject.spawn_command()
        count = 5 if options.quick else 20
        process = place.load("host", "starts", count, *command, ordinary=True)
        result = place.result(process, 120)
        return {"median_ms": result["median_ms"], "least_ms": result["least_ms"]}


class RoutesStart(Row):
    """From start to exit of a command whose namespace is given a copy of many routes."""

    value, unit, less_is_better = "median_ms", "ms", True
    absent = {"bare": "copies no routes", "slirp": "copies no routes"}

    def __init__(self, routes):
        self.routes = routes
        self.quick = routes <= 20_000
        self.name, self.explanation = f"start-{routes}-routes", f"start to exit of true, {routes} routes on the host"
        self.targets = [Target(None, 500, at_most=True)] if routes == 20_000 else []
        if routes > 600:
            self.absent = dict(self.absent, pasta="copies at most some 620 routes")

    def run(self, place, subject, options):
        add_routes(place, self.routes)
        count = 3 if options.quick or self.routes > 20_000 else 10
        process = place.load("host", "starts", count, *subject.spawn_command(), ordinary=True)
        result = place.result(process, 240)
        return {"median_ms": result["median_ms"], "least_ms": result["least_ms"]}


class RoutesFlap(Row):
    """Processor time of a change of one route among many."""

    value, unit, less_is_better = "cpu_ms_each", "ms CPU", True
    absent = {"bare": "follows nothing", "slirp": "follows nothing", "pasta": "follows nothing"}

    def __init__(self, routes):
        self.routes = routes
        self.quick = routes <= 20_000
        self.name = f"flap-{routes}-routes"
        self.explanation = f"CPU time of one route going or coming, {routes} routes on the host"
        self.targets = [Target(None, 5, at_most=True)] if routes == 20_000 else []

    def run(self, place, subject, options):
        add_routes(place, self.routes)
        # The end of duplicate address detection would be a change of the host of its own, which takes a whole plan.
        tentative = place.enter("host") + ["ip", "-6", "addr", "show", "tentative"]
        lab.eventually(lambda: not place.run(tentative), "the host's addresses are usable", 30)
        pid = subject.attach(place, 65520, [])

        def change(verb, is_there):
            place.run(place.enter("host") + ["ip", "route", verb, "20.0.5.0/24", "via", lab.GATEWAY4])
            shows = place.enter("guest") + ["ip", "route", "show", "20.0.5.0/24"]
            lab.eventually(lambda: bool(place.run(shows)) == is_there, f"route {verb} is followed", 30)

        # The first change reads both tables as a whole; it is over when the program does nothing for a while.
        change("del", False)
        before = machine.cpu_seconds_when_idle(pid)
        changes = 10
        for index in range(changes):
            change(*(("del", False) if index % 2 else ("add", True)))
        return {"cpu_ms_each": (machine.cpu_seconds(pid) - before) * 1000 / changes}


def add_routes(place, count):
    """Gives the host so many networks behind its router."""
    path = os.path.join(place.directory, "routes")
    with open(path, "w") as file:
        for index in range(count):
            file.write(f"route add {20 + (index >> 16)}.{index >> 8 & 255}.{index & 255}.0/24 via {lab.GATEWAY4}\n")
    place.run(place.enter("host") + ["ip", "-batch", path])


class Memory(Row):
    """Resident memory, idle and with many flows."""

    value, unit, less_is_better = "rss_kib", "KiB", True
    quick = True
    absent = {"bare": "nothing is resident"}

    def __init__(self, flows):
        self.flows = flows
        if flows:
            self.name, self.value, self.unit = "memory-10000-flows", "bytes_each", "B/flow"
            self.explanation = "memory for each of 10,000 idle TCP flows beyond idle memory"
            self.targets = [Target(None, 2048, 512, at_most=True)]
        else:
            self.name = "memory-idle"
            self.explanation = "resident memory once connected"
            self.targets = [Target("pasta", 0.9, 0.6, at_most=True)]

    def run(self, place, subject, options):
        pid = subject.attach(place, 65520, [])
        time.sleep(0.3)
        idle = machine.memory(pid)
        if not self.flows:
            return idle
        place.serve("far", "hold-server", OTHER_PORT)
        held = hold(place)
        full = machine.memory(pid)
        return {"bytes_each": (full["rss_kib"] - idle["rss_kib"]) * 1024 / held, "rss_kib": full["rss_kib"],
                "flows": held}


class BulkAmongIdle(Row):
    """One stream while many flows are open, relative to the same stream without them."""

    value, unit = "share", "of alone"
    absent = {"bare": "there is no translator"}

    def __init__(self):
        self.name = "bulk-among-10000"
        self.explanation = "TCP out, MTU 65520, with 10,000 idle flows open, relative to the same stream alone"
        self.targets = [Target(None, 0.9, 0.97)]
        self.quick = True

    def run(self, place, subject, options):
        subject.attach(place, 65520, [])

        def stream():
            server = place.iperf_server("far")
            result = tcp_values(place.iperf("guest", lab.FAR4, options.seconds))["gbit"]
            server.wait(10)
            return result

        place.serve("far", "hold-server", OTHER_PORT)
        stream()
        alone = stream()
        held = hold(place)
        among = stream()
        return {"share": among / alone, "gbit": among, "alone_gbit": alone, "flows": held}


def hold(place):
    """Opens many flows from the guest; how many there are."""
    client = place.load("guest", "hold", lab.FAR4, OTHER_PORT, FLOWS)
    line = client.stdout.readline()
    result = lab.json.loads(line) if line else {"error": lab.errors(client), "held": 0}
    if result["held"] < FLOWS:
        raise lab.LabError(f"only {result['held']} of {FLOWS} flows: {result.get('error')}")
    return result["held"]


def build():
    rows = []
    for streams in (1, 4):
        for family in (4, 6):
            for congestion in ("cubic", "bbr"):
                for mtu in (65520, 9000, 1500):
                    for direction in ("out", "in"):
                        rows.append(TCP(family, direction, mtu, congestion, streams))
    rows += [Forwarded(direction, mtu) for mtu in (65520, 1500) for direction in ("in", "out")]
    rows += [UDP(direction, rate) for rate in (False, True) for direction in ("out", "in")]
    rows += [Spliced("out"), Spliced("in")]
    rows += [
        Latency("echo-tcp", "TCP, one byte there and back", "tcp-echo-server", "tcp-echo",
                [Target("pasta", 1.05, 0.95, at_most=True)]),
        Latency("echo-udp", "UDP, one byte there and back", "udp-echo-server", "udp-echo",
                [Target("pasta", 1.05, 0.95, at_most=True)]),
        Latency("connect-echo", "TCP: connect, one byte there and back, close", "tcp-echo-server", "connect-echo",
                [Target("pasta", 1.0, 0.85, at_most=True)]),
        Requests("requests", "TCP: connect, 64 bytes there, 1024 back, the server closes; two at a time"),
        Requests("requests-loopback", "the same between the loopbacks of guest and host", spliced=True),
        Start("start-true", "start to exit of '--config-net -- true'", False,
              [Target("pasta", 0.6, 0.3, at_most=True)]),
        Start("version", "start to exit of '--version'", True, [Target(None, 3, 1.5, at_most=True)]),
        Memory(False), Memory(True), BulkAmongIdle(),
    ]
    rows += [kind(routes) for kind in (RoutesStart, RoutesFlap) for routes in (1000, 20_000, 100_000)]
    rows += floods.build(Target)
    return rows


ALL = build()
