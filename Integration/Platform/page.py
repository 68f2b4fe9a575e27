# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""What is to be run of a page of the documents (see engines.sh).

    page.py blocks PAGE FOLDER    writes the blocks as files, and FOLDER/list: heading, kind, block, what it prints
    page.py expect LINES OUTPUT   fails unless OUTPUT has the lines of LINES in this order
"""
import re
import sys
from pathlib import Path


def blocks(page, folder):
    """The marked blocks of a page, as [heading, kind, file, expected]."""
    found = []
    heading, mark, lines = "", None, None
    for line in Path(page).read_text().split("\n"):
        if lines is not None:
            if line != "```":
                lines.append(line)
                continue
            if mark == "prints":
                if not found or not found[-1][1].startswith("run") or found[-1][3]:
                    sys.exit(f"{page}: a block of output does not follow one to be run, in '{heading}'")
                path = found[-1][2] + ".expected"
                found[-1][3] = path
            elif mark:
                path = f"{folder}/{len(found)}"
                found.append([heading, mark, path, ""])
            if mark:
                Path(path).write_text("\n".join(lines) + "\n")
            mark, lines = None, None
        elif line.startswith("```"):
            lines = []
        elif line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("<!--"):
            mark = re.fullmatch(r"<!-- (run|run as user|run offline|prints|file /\S+) -->", line)
            mark = mark[1] if mark else sys.exit(f"{page}: what is '{line}'?")
        elif mark and line:
            sys.exit(f"{page}: '{mark}' is not followed by a block, in '{heading}'")
    Path(folder, "list").write_text("".join("\t".join(entry) + "\n" for entry in found))


def expect(lines, output):
    """Looks for the lines, each behind the last one that was found."""
    rest = iter(Path(output).read_text().split("\n"))
    for line in Path(lines).read_text().rstrip("\n").split("\n"):
        pattern = re.escape(line.rstrip()).replace(r"\.\.\.", ".*")
        if not any(re.fullmatch(pattern, other.rstrip()) for other in rest):
            sys.exit(f"not printed, or not in this order: {line}")


{"blocks": blocks, "expect": expect}[sys.argv[1]](*sys.argv[2:])
