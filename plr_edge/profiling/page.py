"""HTML page of a profile, written by `plr-edge profile --html`. Draws, and measures nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plr_edge.profiling.trace import NAMES, Run
from plr_edge.report import page as report

_PARTS = ("prepare", "frozen", "adaptive", "frame")
_SHOWN_S = 1.0  # length of a run's strip


def write_page(path: Path, profile: dict[str, Any], runs: Sequence[Run]) -> None:
    """Write a profile, and the runs traced with it, as one page.

    Raises:
        ConfigError: the page cannot be written.
        MissingExtraError: matplotlib is not installed.
    """
    entries = profile["bundles"]
    sections = [
        report.key_figures(_key_figures(profile)),
        report.section("Machine", report.table(machine_rows(profile))),
        report.section(
            "A frame",
            report.bar_plot(_bars(entries, "p50_ms"), "ms, median"),
            *_energy_plot(entries, "engines"),
            report.table(frame_rows(entries)),
        ),
        report.section(
            f"A training step of {profile['batch']} samples, by the level it enters",
            report.bar_plot(_steps(entries, "p50_ms"), "ms, median"),
            *_energy_plot(entries, "steps"),
            report.bar_plot(_steps(entries, "saved_bytes", 1e-6), "MB kept for the backward pass"),
            report.table(step_rows(entries)),
        ),
        report.section("Memory of a process", report.table(memory_rows(profile))),
        *(_run_section(run) for run in runs),
    ]
    report.write_report(path, "plr-edge profile", sections)


def machine_rows(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """Describe the machine at the start and, if it changed, at the end."""
    rows = [
        {"": key.replace("_", " "), "start": value, "end": profile["changed"].get(key)}
        for key, value in profile["machine"].items()
    ]
    heat = profile.get("temperatures_c", {"before": {}, "after": {}})
    rows += [
        {"": f"{zone}, C", "start": value, "end": heat["after"].get(zone)}
        for zone, value in heat["before"].items()
    ]
    rows += [
        {"": f"idle, W, by {source}", "start": idle["w"], "end": None}
        for source, idle in profile["idle"].items()
        if "w" in idle
    ]
    if profile["energy_absent"]:
        rows.append({"": "energy absent", "start": "; ".join(profile["energy_absent"])})
    return rows


def frame_rows(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each part and batch size, bundle by bundle."""
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
    """Return a row for each level, bundle by bundle."""
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


def memory_rows(profile: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the memory of processes: two for each bundle, and imports alone."""
    named = {
        f"{role} ({entry['label']})": row
        for entry in profile["bundles"]
        for role, row in entry["memory"].items()
    }
    rows = [
        {
            "process": name,
            **{
                title: row[key] / 1e6 if key in row else None
                for title, key in (("peak RSS MB", "peak_rss_bytes"), ("PSS MB", "pss_bytes"),
                                   ("data MB", "data_bytes"))
            },
            "import CPU s": row.get("import_cpu_s"),
        }
        for name, row in (named | {f"imports {k}": v for k, v in profile["memory"].items()}).items()
    ]  # fmt: skip
    return _without_empty(rows)


def _timing(row: dict[str, Any]) -> dict[str, Any]:
    return {f"{p} ms": row[f"{p}_ms"] for p in ("p50", "p90", "p99")}


def _energy(row: dict[str, Any]) -> dict[str, Any]:
    """Return gross and net millijoules, by meter."""
    return {
        f"{prefix} mJ ({source})": value
        for prefix, key in (("gross", "energy_mj"), ("net", "net_mj"))
        for source, value in row.get(key, {}).items()
    }


def _without_empty(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every row the same columns, without those that no row fills."""
    columns = dict.fromkeys(column for row in rows for column in row)
    filled = [c for c in columns if any(row.get(c) is not None for row in rows)]
    return [{column: row.get(column) for column in filled} for row in rows]


def _key_figures(profile: dict[str, Any]) -> dict[str, str]:
    figures = {}
    for entry in profile["bundles"]:
        frame = next(row for row in entry["engines"] if row["part"] == "frame")
        figures[f"a frame, {entry['label']}"] = f"{frame['p50_ms']:.2f} ms"
    for source, idle in profile["idle"].items():
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


def _energy_plot(entries: Sequence[dict[str, Any]], section: str) -> list[str]:
    """Draw net millijoules, added up over the meters. Draws nothing without a meter."""
    bars = {}
    for entry in entries:
        bars[entry["label"]] = {
            row.get("level", row.get("part")): sum(row["net_mj"].values())
            for row in entry[section]
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
    """Draw where the time of a run's last second went, and the samples of the whole run."""
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
            f"one. The last {_SHOWN_S:g} s are shown; --trace writes the whole run for "
            "ui.perfetto.dev."
        ),
        report.strip_plot(strips, "s"),
        *(report.time_plot(lines, "s", name) for name, lines in curves.items()),
    )
