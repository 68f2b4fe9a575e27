# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""What is measured: the translators, each started for a guest that exists, and the bare link."""

import json
import os
import shutil
import socket

import lab
import machine


class Subject:
    """A translator or, without one, the bare link."""

    name = "bare"
    #: Where a guest finds the host's loopback; None: at its own 127.0.0.1 (a forwarded port).
    host_loopback = None

    def version(self):
        return machine.description()["kernel"]

    def attach(self, place, mtu, ports, maps_gateway=False):
        """Connects a guest.

        `ports` is a list of (direction, protocol, port): direction "in" for a port of the host that reaches the guest,
        "out" for a port of the guest's loopback that reaches the host's. `maps_gateway`: the gateway's address stands
        for the host's loopback. Returns the translator's process id; None for the bare link, where the host is the
        guest.
        """
        return None

    def spawn_command(self):
        """The words that run a command in a connected namespace of its own."""
        return ["unshare", "--user", "--map-root-user", "--net", "true"]

    def version_command(self):
        return ["/bin/true"]


class Pasta(Subject):
    """pasta, or a program with its command line."""

    #: Words before the program's path, such as env(1) and variables.
    prefix = []

    def __init__(self, name, path):
        self.name = name
        self.path = path

    def version(self):
        package = machine.first_line(["dpkg-query", "-W", "-f", "${Package} ${Version}", "passt"])
        return package if self.name == "pasta" else machine.first_line([self.path, "--version"])

    def attach(self, place, mtu, ports, maps_gateway=False):
        guest = place.make_guest()
        ready = os.path.join(place.directory, "pid")
        words = ["--config-net"] + ([] if maps_gateway else ["--no-map-gw"]) + ["--quiet", "--foreground", "--mtu", str(mtu), "--pid", ready]
        for option in "tuTU":
            wanted = [str(port) for direction, protocol, port in ports
                      if option == {"in": protocol[0], "out": protocol[0].upper()}[direction]]
            words += ["-" + option, ",".join(wanted) or "none"]
        process = place.start("host", self.prefix + [self.path] + words + [str(guest)], record=True, ordinary=True)

        def is_ready():
            if process.poll() is not None:
                raise lab.LabError(f"{self.name} ended with {process.returncode}: {lab.errors(process)}")
            try:
                with open(ready) as file:
                    return file.read().endswith("\n")
            except OSError:
                return False

        lab.eventually(is_ready, f"{self.name} is ready")
        return process.pid

    def spawn_command(self):
        return [self.path, "--config-net", "--quiet", "--", "true"]

    def version_command(self):
        return [self.path, "--version"]


class Slirp(Subject):
    """slirp4netns, which only attaches and forwards ports by its API socket."""

    name = "slirp"
    host_loopback = "10.0.2.2"

    def __init__(self, path):
        self.path = path

    def version(self):
        return machine.first_line([self.path, "--version"])

    def attach(self, place, mtu, ports, maps_gateway=False):
        guest = place.make_guest()
        reading, writing = os.pipe()
        api = os.path.join(place.directory, "api")
        words = ["--configure", f"--mtu={mtu}", "--enable-ipv6", f"--ready-fd={writing}", f"--api-socket={api}",
                 str(guest), "tap0"]
        process = place.start("host", [self.path] + words, record=True, ordinary=True, pass_fds=(writing,))
        os.close(writing)
        with os.fdopen(reading) as file:
            if file.read(1) != "1":
                process.wait()
                raise lab.LabError(f"slirp4netns: {lab.errors(process)}")
        # The address that the router of slirp announces comes a moment later; it is set instead.
        place.run(place.enter("guest") + ["ip", "addr", "replace", "fd00::100/64", "dev", "tap0", "nodad"])
        place.run(place.enter("guest") + ["ip", "-6", "route", "replace", "default", "via", "fd00::2", "dev", "tap0"])
        for direction, protocol, port in ports:
            if direction == "in":
                self.forward(place, api, protocol, port)
        return process.pid

    def forward(self, place, path, protocol, port):
        request = {"execute": "add_hostfwd",
                   "arguments": {"proto": protocol, "host_addr": "0.0.0.0", "host_port": port, "guest_port": port}}
        place.commands.append(f"api: {json.dumps(request)}")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            sock.sendall(json.dumps(request).encode())
            sock.shutdown(socket.SHUT_WR)
            answer = json.loads(sock.recv(4096))
        if "error" in answer:
            raise lab.LabError(f"slirp4netns: {answer['error']}")

    def version_command(self):
        return [self.path, "--version"]


def available(options):
    """The subjects asked for, those that are there."""
    known = [Subject(), Pasta("tapas", options.tapas)]
    if options.other:
        known.append(Pasta("other", options.other))
    if shutil.which(options.pasta):
        known.append(Pasta("pasta", options.pasta))
    if shutil.which(options.slirp4netns):
        known.append(Slirp(options.slirp4netns))
    if not options.subjects:
        return known
    wanted = options.subjects.split(",")
    return [subject for subject in known if subject.name in wanted]
