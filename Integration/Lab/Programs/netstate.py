# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""What the kernel holds for the network namespace, one canonical line each, in an order that does not depend on time.

Left out, because they are the kernel's own doing or differ from run to run: the loopback link, link-local IPv6
addresses and fe80::/64, the cloned and local routes, MAC addresses (unless --mac), route protocols.
"""
import json
import subprocess
import sys


def ip(*arguments):
    text = subprocess.run(["ip", "-j", *arguments], check=True, capture_output=True, text=True).stdout
    return json.loads(text or "[]")


def hops(route):
    for hop in route["nexthops"]:
        via = hop.get("gateway") or hop.get("via", {}).get("host", "")
        yield f"[via {via} weight {hop.get('weight', 1)}]" if via else f"[dev {hop['dev']} weight {hop.get('weight', 1)}]"


def route_line(family, route):
    parts = ["route" if family == "-4" else "route6", route["dst"]]
    if route.get("type", "unicast") != "unicast":
        parts.insert(1, route["type"])
    if "gateway" in route:
        parts.append(f"via {route['gateway']}")
    elif "via" in route:
        parts.append(f"via {route['via']['family']} {route['via']['host']}")
    if "nexthops" in route:
        parts.extend(hops(route))
    if route.get("scope", "global") != "global" and family == "-4":
        parts.append(f"scope {route['scope']}")
    if "prefsrc" in route:
        parts.append(f"src {route['prefsrc']}")
    if "metric" in route and not (family == "-6" and route["metric"] in (256, 1024)):
        parts.append(f"metric {route['metric']}")
    if "onlink" in route.get("flags", []):
        parts.append("onlink")
    for metric in route.get("metrics", []):
        for name, value in metric.items():
            parts.append(f"{name} {value}")
    return " ".join(parts)


def main():
    lines = []
    names = set()
    for link in ip("-d", "addr", "show"):
        if link.get("link_type") == "loopback" or not link.get("ifname") or link["ifname"] == "lo":
            continue
        if "LOWER_UP" not in link["flags"] and link.get("linkinfo", {}).get("info_kind") in ("sit", "ip6tnl", "gre"):
            continue
        names.add(link["ifname"])
        state = "up" if "UP" in link["flags"] else "down"
        mac = f" mac {link['address']}" if "--mac" in sys.argv else ""
        lines.append(f"link {link['ifname']} mtu {link['mtu']} {state}{mac}")
        for address in link.get("addr_info", []):
            local = address["local"]
            if address["family"] == "inet6" and local.startswith("fe80:"):
                continue
            flags = [flag for flag in ("noprefixroute", "secondary", "tentative", "dadfailed", "deprecated",
                                       "mngtmpaddr", "temporary") if address.get(flag)]
            peer = f" peer {address['address']}" if "address" in address else ""
            scope = [] if address["scope"] == "global" else [f"scope {address['scope']}"]
            lines.append(" ".join([f"addr {local}{peer}/{address['prefixlen']}", *scope, *flags]))
    for family in ("-4", "-6"):
        for route in ip("-d", family, "route", "show", "table", "main"):
            if route["dst"] == "fe80::/64" or route.get("dev") == "lo":
                continue
            lines.append(route_line(family, route))
    print("\n".join(lines))


main()
