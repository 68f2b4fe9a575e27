# Copyright the tapas authors. SPDX-License-Identifier: Apache-2.0
"""Medians, ratios and verdicts of the runs, as data and as Markdown tables."""

import statistics


def number(value):
    """Three significant digits."""
    if value is None:
        return "-"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.01 or value == 0 else f"{value:.1e}"


def last_line(text):
    """The line that matters of an error, be it a traceback's."""
    return text.strip().splitlines()[-1]


def summary(row, runs):
    """A row's runs with the medians of each subject's values and the verdicts on its targets."""
    subjects = {}
    for run in runs:
        entry = subjects.setdefault(run["subject"], {"values": {}, "errors": 0})
        if "absent" in run:
            entry["absent"] = run["absent"]
        elif "error" in run:
            entry["errors"] += 1
            entry["error"] = last_line(run["error"])
        else:
            for key, value in run["values"].items():
                entry["values"].setdefault(key, []).append(value)
    for entry in subjects.values():
        entry["median"] = {key: statistics.median(values) for key, values in entry["values"].items()}
        entry["least"] = {key: min(values) for key, values in entry["values"].items()}
        entry["most"] = {key: max(values) for key, values in entry["values"].items()}
        del entry["values"]
    result = {"name": row.name, "explanation": row.explanation, "value": row.value, "unit": row.unit,
              "subjects": subjects, "runs": runs}
    result["verdicts"] = [verdict for target in row.targets if (verdict := judge(row, target, subjects))]
    return result


def judge(row, target, subjects):
    """What has become of a target: its words, the figure reached, and whether floor and goal are met."""
    key = target.value or row.value
    own = subjects.get("tapas", {}).get("median", {}).get(key)
    if own is None:
        return None
    reached = own
    if target.of:
        other = subjects.get(target.of, {}).get("median", {}).get(key)
        if other is None:
            return None
        if other == 0:
            reached = 1.0 if own == 0 else float("inf")
        else:
            reached = own / other
    sign = "<=" if target.at_most else ">="

    def met(limit):
        return None if limit is None else (reached <= limit if target.at_most else reached >= limit)

    unit = f" x {target.of}" if target.of else ""
    what = "" if key == row.value else f"{key} "
    text = f"{what}{sign} {number(target.floor)}" + (f" ({number(target.goal)})" if target.goal else "") + unit
    return {"target": text, "reached": reached, "floor_met": met(target.floor), "goal_met": met(target.goal)}


def cell(row, name):
    """One subject's median and range."""
    entry = row["subjects"].get(name)
    if entry is None:
        return ""
    if "absent" in entry:
        return "-"
    key = row["value"]
    if key not in entry["median"]:
        return "failed"
    text = number(entry["median"][key])
    low, high = entry["least"][key], entry["most"][key]
    if low != high:
        text += f" [{number(low)}-{number(high)}]"
    if "cpu_s_gb" in entry["median"]:
        text += f"; {number(entry['median']['cpu_s_gb'])} s/GB"
    if "cpu_us_each" in entry["median"]:
        text += f"; {number(entry['median']['cpu_us_each'])} us CPU each"
    if key != "loss_percent" and "loss_percent" in entry["median"]:
        text += f"; {number(entry['median']['loss_percent'])} % lost"
    return text


def ratio(row, name):
    own = row["subjects"].get("tapas", {}).get("median", {}).get(row["value"])
    other = row["subjects"].get(name, {}).get("median", {}).get(row["value"])
    if own is None or not other:
        return "-"
    return number(own / other)


def verdict(row):
    """The targets in words: met, goal met, or by how much missed."""
    texts = []
    for one in row["verdicts"]:
        state = "goal met" if one["goal_met"] else "met" if one["floor_met"] else f"**missed: {number(one['reached'])}**"
        texts.append(f"{one['target']}: {state}")
    return "; ".join(texts)


def tables(result):
    """The report as Markdown."""
    machine = result["machine"]
    names = list(result["versions"])
    lines = [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_mib']} MiB, "
        f"{machine['distribution']}, kernel {machine['kernel']}.  ",
        "Versions: " + "; ".join(f"{name}: {version}" for name, version in result["versions"].items()) + "; "
        + result["programs"]["iperf3"] + ".  ",
        f"Runs: {result['options']['rounds']} rounds of {result['options']['seconds']:g} s; median [least-most].", "",
        "| row | unit | " + " | ".join(names) + " | tapas / pasta | tapas / bare | target: floor (goal) |",
        "|---|---|" + "---|" * len(names) + "---|---|---|",
    ]
    for row in result["rows"]:
        cells = [cell(row, name) for name in names]
        lines.append(f"| {row['name']} | {row['unit']} | " + " | ".join(cells)
                     + f" | {ratio(row, 'pasta')} | {ratio(row, 'bare')} | {verdict(row)} |")
    failures = [f"- {row['name']}, {name}: {entry['error']}" for row in result["rows"]
                for name, entry in row["subjects"].items() if entry.get("error")]
    if failures:
        lines += ["", "Failed runs:", ""] + failures
    return "\n".join(lines) + "\n"
