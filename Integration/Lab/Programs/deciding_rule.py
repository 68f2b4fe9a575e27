# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Which policy rule the kernel's routing ends at: deciding_rule.py -4|-6 DESTINATION PORT prints its priority, or "none".

The kernel does not tell, so it is tried: a rule that refuses everything is put before each rule in turn, and the kernel
asked whether it still answers as before. Where the answer has become the refusal, the kernel has come as far as that
rule; the last rule that it came to is the one that decided. Priorities must be two apart, and no rule may jump.
"""
import json
import subprocess
import sys

family, destination, port = sys.argv[1:]


def ip(*words):
    return subprocess.run(["ip", family, *words], capture_output=True, text=True)


def must(*words):
    done = ip(*words)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def ask(source):
    words = ["from", source] if source else []
    done = ip("route", "get", destination, *words, "ipproto", "tcp", "dport", port)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()


answer = ask(None)
source = None
# A socket's IPv4 packets are routed once more when their source is chosen.
if family == "-4" and " src " in answer:
    source = answer.split(" src ")[1].split()[0]
    answer = ask(source)
kind, refusal = "prohibit", "Permission denied"
if refusal in answer:
    kind, refusal = "blackhole", "Invalid argument"
deciding = 0
for priority in sorted({rule["priority"] for rule in json.loads(must("-j", "rule"))}) + [40001]:
    if priority == 0:
        continue
    marker = [kind, "pref", str(priority - 1)]
    must("rule", "add", *marker)
    is_reached = refusal in ask(source)
    must("rule", "del", *marker)
    if not is_reached:
        break
    deciding = priority
print("none" if deciding == 40001 else deciding)
