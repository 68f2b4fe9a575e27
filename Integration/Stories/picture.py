#!/usr/bin/env python3
# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Draws what a story has printed as a terminal, in SVG: Integration/Stories/train-ride.sh | Integration/Stories/picture.py > docs/train-ride.svg

The first line of the input is the title of the window. Lines appear one after the other, at the times of the run, where the
viewer shows animations, and all at once where it does not.
"""
import html
import re
import sys

COLUMNS, ROW, TOP, LEFT = 96, 18, 52, 18
WIDTH = LEFT * 2 + int(COLUMNS * 7.8)
STYLES = [
    (r"--- ", "part"),
    (r"tapas ", "command"),
    (r"host: ", "host"),
    (r"    namespace: lost ", "lost"),
    (r"    namespace: ", "inside"),
    (r"", "end"),
]


def kind(text):
    return next(name for pattern, name in STYLES if re.match(pattern, text))


def main():
    title, *lines = sys.stdin.read().rstrip("\n").split("\n")
    if len(lines) < 2 or not all(re.match(r" *[0-9.]+ s  ", line) for line in lines):
        sys.exit("picture.py: the input is not what a story prints")
    height = TOP + ROW * len(lines) + 14
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
          f' role="img" aria-label="{html.escape(title)}">')
    print("""<style>
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; fill: #c9d1d9 }
.title { fill: #8b949e } .time { fill: #6e7681 } .part { fill: #e3b341; font-weight: bold } .command { fill: #ffffff; font-weight: bold }
.host { fill: #79c0ff } .inside { fill: #7ee787 } .lost { fill: #ff7b72 } .end { fill: #ffffff; font-weight: bold }
@media (prefers-reduced-motion: no-preference) { g.line { animation: show 0.01s both } }
@keyframes show { from { opacity: 0 } to { opacity: 1 } }
</style>""")
    print(f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#0d1117"/>')
    for index, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f")):
        print(f'<circle cx="{22 + 20 * index}" cy="20" r="6" fill="{colour}"/>')
    print(f'<text class="title" x="{WIDTH / 2:g}" y="25" text-anchor="middle">{html.escape(title)}</text>')
    for index, line in enumerate(lines):
        time, text = re.fullmatch(r" *([0-9.]+) s  (.*)", line).groups()
        y = TOP + ROW * index
        words = html.escape(text[:COLUMNS - 10])
        print(f'<g class="line" style="animation-delay: {time}s"><text class="time" x="{LEFT}" y="{y}">{time:>6} s</text>'
              f'<text class="{kind(text)}" x="{LEFT + 78}" y="{y}">{words}</text></g>')
    print("</svg>")


main()
