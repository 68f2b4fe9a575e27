#!/usr/bin/env python3
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Draws rows of the table in docs/benchmarks.md as bars, in SVG: plot.py docs/benchmarks.md > docs/benchmarks.svg

It reads the table as it stands, so the picture cannot say anything else than the page.
"""
import html
import re
import sys
from pathlib import Path

ROWS = [
    ("tcp4-out-65520-cubic", "TCP out, one stream, Gbit/s"), ("tcp4-in-65520-cubic", "TCP in, one stream, Gbit/s"),
    ("tcp4-out-1500-cubic", "TCP out, MTU 1500, Gbit/s"), ("tcp4-in-1500-cubic", "TCP in, MTU 1500, Gbit/s"),
    ("forwarded-in-65520", "Forwarded port in, Gbit/s"), ("udp-in-max", "UDP in, unlimited, Gbit/s"),
    ("requests", "HTTP-like requests, thousands/s"), ("echo-tcp", "TCP round trip, us (less is better)"),
]
SUBJECTS = [("bare", "no translator", "#8b949e"), ("tapas", "tapas", "#1f6feb"), ("pasta", "pasta", "#d29922"),
            ("slirp", "slirp4netns", "#a371f7")]
WIDTH, LABEL, BAR, GAP = 760, 250, 13, 16


def table(page):
    """The table's figures: row, subject -> number or None."""
    lines = [line for line in Path(page).read_text().split("\n") if line.startswith("|")]
    head = next(line for line in lines if line.startswith("| row | unit |"))
    names = [cell.strip() for cell in head.strip("|").split("|")]
    found = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(names):
            found.setdefault(cells[0], dict(zip(names, cells)))
    return found


def number(cell):
    match = re.match(r"[0-9.]+", cell or "")
    return float(match[0]) if match else None


def main():
    figures = table(sys.argv[1])
    parts, y = [], 46
    for name, title in ROWS:
        if name not in figures:
            sys.exit(f"plot.py: {sys.argv[1]} has no row '{name}'")
        scale = 1000 if "thousands" in title else 1
        values = [(subject, number(figures[name].get(subject))) for subject, _, _ in SUBJECTS]
        most = max(value for _, value in values if value is not None)
        parts.append(f'<text x="{LABEL - 10}" y="{y + 11}" text-anchor="end">{html.escape(title)}</text>')
        for (_, value), (_, _, colour) in zip(values, SUBJECTS):
            if value is not None:
                length = (WIDTH - LABEL - 70) * value / most
                parts.append(f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR - 2}" fill="{colour}"/>')
                parts.append(f'<text class="value" x="{LABEL + length + 5:.1f}" y="{y + 10}">{value / scale:.3g}</text>')
            else:
                parts.append(f'<text class="value" x="{LABEL + 5}" y="{y + 10}">not measured</text>')
            y += BAR
        y += GAP
    legend, x = [], LABEL
    for _, title, colour in SUBJECTS:
        legend.append(f'<rect x="{x}" y="14" width="12" height="12" fill="{colour}"/>'
                      f'<text x="{x + 17}" y="25">{title}</text>')
        x += 115
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}" role="img"'
          ' aria-label="Figures of the table as bars">')
    print('<style>text { font: 13px sans-serif; fill: #57606a } .value { font-size: 11px }</style>')
    print("\n".join(legend + parts))
    print("</svg>")


main()
