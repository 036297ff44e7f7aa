"""The HTML page of a profile: what `plr-edge profile --html` writes. Draws; measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plr_edge.profiling.trace import NAMES, Run
from plr_edge.report import page as report

_PARTS = ("prepare", "frozen", "adaptive", "frame")
_SHOWN_S = 1.0  # of a run, as a strip


def write_page(path: Path, facts: dict[str, Any], runs: Sequence[Run]) -> None:
    """Write a profile, and the runs that were traced with it, as one page.

    Raises:
        ConfigError: the page cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    entries = facts["bundles"]
    sections = [
        report.key_figures(_key_figures(facts)),
        report.section("Machine", report.table(machine_rows(facts))),
        report.section(
            "A frame",
            report.bar_plot(_bars(entries, "p50_ms"), "ms, median"),
            *_energy_plot(entries, "engines"),
            report.table(frame_rows(entries)),
        ),
        report.section(
            f"A training step of {facts['batch']} samples, by the level it enters",
            report.bar_plot(_steps(entries, "p50_ms"), "ms, median"),
            *_energy_plot(entries, "steps"),
            report.bar_plot(_steps(entries, "saved_bytes", 1e-6), "MB kept for the backward pass"),
            report.table(step_rows(entries)),
        ),
        report.section("Memory of a process", report.table(memory_rows(facts))),
        *(_run_section(run) for run in runs),
    ]
    report.write_report(path, "plr-edge profile", sections)


def machine_rows(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what is known of the machine, at the start and, where it differs, at the end."""
    rows = [
        {"": key.replace("_", " "), "start": value, "end": facts["changed"].get(key)}
        for key, value in facts["machine"].items()
    ]
    heat = facts.get("temperatures_c", {"before": {}, "after": {}})
    rows += [
        {"": f"{zone}, C", "start": value, "end": heat["after"].get(zone)}
        for zone, value in heat["before"].items()
    ]
    rows += [
        {"": f"idle, W, by {source}", "start": idle["w"], "end": None}
        for source, idle in facts["idle"].items()
        if "w" in idle
    ]
    if facts["energy_absent"]:
        rows.append({"": "energy absent", "start": "; ".join(facts["energy_absent"])})
    return rows


def frame_rows(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each part and batch, bundles beside each other."""
    rows = []
    for i, first in enumerate(entries[0]["engines"]):
        for entry in entries:
            row = entry["engines"][i]
            rows.append(
                {
                    "part": row["part"],
                    "batch": row["batch"],
                    "bundle": entry["label"],
                    **_timing(row),
                    "times faster": first["p50_ms"] / row["p50_ms"] if len(entries) > 1 else None,
                    "MMACs": row["macs"] / 1e6 if "macs" in row else None,
                    **_energy(row),
                }
            )
    return _without_empty(rows)


def step_rows(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each level, bundles beside each other where they have it in common."""
    names = [step["level"] for entry in entries for step in entry["steps"]]
    rows = []
    for name in dict.fromkeys(names):
        for entry in entries:
            rows += [
                {
                    "level": name,
                    "bundle": entry["label"],
                    **_timing(step),
                    "MMACs": step["macs"] / 1e6,
                    "autograd MB": step["saved_bytes"] / 1e6,
                    **_energy(step),
                }
                for step in entry["steps"]
                if step["level"] == name
            ]
    return _without_empty(rows)


def memory_rows(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what processes need: those of each bundle, and imports alone."""
    named = {
        f"{role} ({entry['label']})": row
        for entry in facts["bundles"]
        for role, row in entry["memory"].items()
    }
    rows = [
        {
            "process that": name,
            **{
                title: row[key] / 1e6 if key in row else None
                for title, key in (("peak RSS MB", "peak_rss_bytes"), ("PSS MB", "pss_bytes"),
                                   ("data MB", "data_bytes"))
            },
            "import CPU s": row.get("import_cpu_s"),
        }
        for name, row in (named | {f"imports {k}": v for k, v in facts["memory"].items()}).items()
    ]  # fmt: skip
    return _without_empty(rows)


def _timing(row: dict[str, Any]) -> dict[str, Any]:
    return {f"{p} ms": row[f"{p}_ms"] for p in ("p50", "p90", "p99")}


def _energy(row: dict[str, Any]) -> dict[str, Any]:
    """Return gross and net millijoules by meter."""
    return {
        f"{kind} mJ ({source})": value
        for kind, key in (("gross", "energy_mj"), ("net", "net_mj"))
        for source, value in row.get(key, {}).items()
    }


def _without_empty(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every row the same columns, and leave out those that none fills."""
    columns = dict.fromkeys(column for row in rows for column in row)
    filled = [c for c in columns if any(row.get(c) is not None for row in rows)]
    return [{column: row.get(column) for column in filled} for row in rows]


def _key_figures(facts: dict[str, Any]) -> dict[str, str]:
    figures = {}
    for entry in facts["bundles"]:
        frame = next(row for row in entry["engines"] if row["part"] == "frame")
        figures[f"a frame, {entry['label']}"] = f"{frame['p50_ms']:.2f} ms"
    for source, idle in facts["idle"].items():
        if "w" in idle:
            figures[f"idle, {source}"] = f"{idle['w']:.2f} W"
    return figures


def _bars(entries: Sequence[dict[str, Any]], key: str) -> dict[str, dict[str, float]]:
    return {
        entry["label"]: {
            part: next(r[key] for r in entry["engines"] if r["part"] == part and r["batch"] == 1)
            for part in _PARTS
        }
        for entry in entries
    }


def _steps(
    entries: Sequence[dict[str, Any]], key: str, factor: float = 1.0
) -> dict[str, dict[str, float]]:
    names = list(dict.fromkeys(s["level"] for entry in entries for s in entry["steps"]))
    bars = {}
    for entry in entries:
        values = {step["level"]: step[key] * factor for step in entry["steps"]}
        bars[entry["label"]] = {name: values.get(name, float("nan")) for name in names}
    return bars


def _energy_plot(entries: Sequence[dict[str, Any]], kind: str) -> list[str]:
    """Draw net millijoules, added up over the meters; nothing where there is none."""
    bars = {}
    for entry in entries:
        bars[entry["label"]] = {
            row.get("level", row.get("part")): sum(row["net_mj"].values())
            for row in entry[kind]
            if row.get("net_mj")
        }
    if not all(bars.values()):
        return []
    names = list(dict.fromkeys(name for values in bars.values() for name in values))
    even = {
        label: {n: values.get(n, float("nan")) for n in names} for label, values in bars.items()
    }
    return [report.bar_plot(even, "mJ above idle")]


def _run_section(run: Run) -> str:
    """Draw where the time went in a run's last second, and what was sampled meanwhile."""
    zero_ns, end_ns = run.spans[0].start_ns, run.spans[-1].end_ns
    strips: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for span in run.spans:
        if span.end_ns > end_ns - _SHOWN_S * 1e9:
            start_s = (span.start_ns - zero_ns) / 1e9
            strips[span.name].append((start_s, (span.end_ns - span.start_ns) / 1e9))
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for sample in run.samples:
        for key, value in sample.values.items():
            points = curves.setdefault(sample.name, {}).setdefault(key, [])
            points.append(((sample.at_ns - zero_ns) / 1e9, value))
    return report.section(
        f"A run of {run.name}",
        report.paragraph(
            f"{sum(s.name == 'frozen' for s in run.spans)} frames, answered and learned one by "
            f"one; the last {_SHOWN_S:g} s. --trace writes all of it for ui.perfetto.dev."
        ),
        report.strip_plot(strips, "s"),
        *(report.time_plot(lines, "s", name) for name, lines in curves.items()),
    )
