# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""The place of one run, inside contrib/dev/lab:

    guest --(tap)-- translator in "host" --(veth)-- "far"

The guest is a user and network namespace of an ordinary user, held by a sleeping process; the translator is started by
the same user and attaches to it. For the bare link there is no guest, and the host takes its part.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
import time

HOST4, HOST6 = "192.0.2.10", "2001:db8:1::10"
GATEWAY4, GATEWAY6 = "192.0.2.1", "2001:db8:1::1"
FAR4, FAR6 = "198.51.100.5", "2001:db8:2::5"
USER = 4242
#: The interpreter for load.py, which an ordinary user must be able to start.
PYTHON = ["/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable, "-S", "-E"]


class LabError(Exception):
    """Something of the lab, or a subject, did not do what it should."""


def many_users():
    """Whether the lab has more than one user id, so that an ordinary user can be one."""
    with open("/proc/self/uid_map") as file:
        return int(file.read().split()[2]) > USER


def as_user(command):
    """The command, as the ordinary user."""
    if not many_users():
        return command
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] + command


def eventually(condition, what, seconds=10.0):
    """Waits for a condition to hold; its value is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(0.005)


class Lab:
    """Fresh namespaces for one run; everything started in them ends with it."""

    serial = 0

    def __init__(self, directory, link_mtu, congestion):
        Lab.serial += 1
        self.directory = os.path.join(directory, str(Lab.serial))
        os.mkdir(self.directory)
        os.chmod(self.directory, 0o777)
        self.link_mtu = link_mtu
        self.congestion = congestion
        self.processes = []
        self.commands = []
        self.guest = None

    def __enter__(self):
        try:
            for name in ("host", "far"):
                self.run(["ip", "netns", "add", name])
                self.run(["ip", "-n", name, "link", "set", "lo", "up"])
            self.run(["ip", "-n", "host", "link", "add", "eth0", "mtu", str(self.link_mtu), "type", "veth", "peer",
                      "name", "eth0", "mtu", str(self.link_mtu), "netns", "far"])
            for name, four, six in (("host", HOST4, HOST6), ("far", GATEWAY4, GATEWAY6)):
                self.run(["ip", "-n", name, "addr", "add", four + "/24", "dev", "eth0"])
                self.run(["ip", "-n", name, "addr", "add", six + "/64", "dev", "eth0", "nodad"])
                self.run(["ip", "-n", name, "link", "set", "eth0", "up"])
            self.run(["ip", "-n", "far", "addr", "add", FAR4 + "/32", "dev", "lo"])
            self.run(["ip", "-n", "far", "addr", "add", FAR6 + "/128", "dev", "lo", "nodad"])
            # Answers leave from the address that was asked.
            self.run(["ip", "-n", "far", "route", "replace", "192.0.2.0/24", "dev", "eth0", "src", FAR4])
            self.run(["ip", "-n", "far", "-6", "route", "add", "2001:db8:1::/64", "dev", "eth0", "src", FAR6,
                      "metric", "1"])
            self.run(["ip", "-n", "host", "route", "add", "default", "via", GATEWAY4])
            self.run(["ip", "-n", "host", "-6", "route", "add", "default", "via", GATEWAY6])
            for name in ("host", "far"):
                self.tune(["ip", "netns", "exec", name])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.kill()
        for process in self.processes:
            process.wait()
        for name in ("host", "far"):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def tune(self, enter):
        """Congestion control, and ports enough for thousands of connections one after the other."""
        settings = [f"net.ipv4.tcp_congestion_control={self.congestion}", "net.ipv4.tcp_tw_reuse=1",
                    "net.ipv4.ip_local_port_range=2000 65000"]
        self.run(enter + ["sysctl", "-q", "-w"] + settings)

    def run(self, command):
        """Runs a command to its end."""
        result = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if result.returncode != 0:
            raise LabError(f"{shlex.join(command)}: {(result.stderr or result.stdout).strip()}")
        return result.stdout

    # Where things run.

    def enter(self, place):
        """The words that run a command in "host", "far" or "guest"; without a guest, the host is it."""
        if place == "guest" and self.guest is not None:
            # With one user id that of the lab is the guest's, too, and setgroups(2), which --setuid implies, is forbidden.
            identity = ["--setuid=0", "--setgid=0"] if many_users() else ["--preserve-credentials"]
            return ["nsenter", f"--target={self.guest}", "--user", "--net"] + identity
        name = "host" if place == "guest" else place
        return ["nsenter", f"--net=/run/netns/{name}"]

    def start(self, place, command, record=False, pass_fds=(), ordinary=False, output=subprocess.PIPE, stdin=None):
        """Starts a command in a place; it is killed at the end of the lab."""
        words = shlex.join(str(word) for word in command)
        if record:
            self.commands.append(f"{place}: {words}")
        if ordinary:
            command = as_user(command)
        errors = open(os.path.join(self.directory, f"{len(self.processes)}.err"), "w+")
        process = subprocess.Popen(
            self.enter(place) + [str(word) for word in command], stdin=stdin or subprocess.DEVNULL, stdout=output,
            stderr=errors, text=True, pass_fds=pass_fds)
        process.errors = errors
        process.words = words
        self.processes.append(process)
        return process

    def make_guest(self):
        """The guest, empty but for its loopback."""
        host = self.start("host", ["unshare", "--user", "--map-root-user", "--net", "sleep", "infinity"], ordinary=True)
        with open("/proc/self/uid_map") as file:
            outside = file.read()

        def ready():
            with open(f"/proc/{host.pid}/uid_map") as file:
                text = file.read()
            with open(f"/proc/{host.pid}/comm") as file:
                return text and text != outside and file.read() == "sleep\n"

        eventually(ready, "the guest has its namespaces")
        self.guest = host.pid
        self.run(self.enter("guest") + ["ip", "link", "set", "lo", "up"])
        self.tune(self.enter("guest"))
        return host.pid

    # Load.

    def load(self, place, *arguments, ordinary=False, cpu=None):
        """Starts load.py in a place, on one processor if told: where both ends of an exchange run decides its time."""
        pinned = [] if cpu is None else ["taskset", "-c", str(cpu % os.cpu_count())]
        command = pinned + PYTHON + [os.environ["TAPAS_BENCH_LOAD"]] + [str(word) for word in arguments]
        return self.start(place, command, record=True, stdin=subprocess.PIPE, ordinary=ordinary)

    def serve(self, place, *arguments, cpu=None):
        """Starts a server of load.py and waits until it serves."""
        process = self.load(place, *arguments, cpu=cpu)
        line = process.stdout.readline()
        if line != "ready\n":
            raise LabError(f"server {arguments}: {errors(process)}")
        return process

    def result(self, process, seconds):
        """The JSON that a process prints, once it has ended."""
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            raise LabError(f"no end after {seconds:g} s: {process.words}") from None
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            raise LabError(f"{process.words}: {text} {errors(process)}") from None

    def iperf_server(self, place):
        """An iperf3 server for one test."""
        process = self.start(place, ["iperf3", "-s", "-1", "--forceflush"], record=True)
        for line in process.stdout:
            if "listening" in line:
                return process
        raise LabError(f"iperf3 server: {errors(process)}")

    def iperf(self, place, address, seconds, *words):
        """Runs an iperf3 client; its JSON."""
        client = self.start(place, ["iperf3", "-J", "-c", address, "-t", f"{seconds:g}"] + list(words), record=True)
        result = self.result(client, seconds + 20)
        if "error" in result:
            raise LabError(f"iperf3: {result['error']}")
        return result


def errors(process):
    """What a process has written to its standard error."""
    process.errors.seek(0)
    return process.errors.read().strip()
