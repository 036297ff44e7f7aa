"""Tables and pages of a grid of methods and scenarios."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from benchmarks.methods.registry import CEILINGS
from benchmarks.results import Row, cell, table, write_results
from benchmarks.summary import (
    MEASURES,
    claim,
    difference,
    half_interval,
    ours_on_front,
    rivals,
    summary,
)
from plr_edge.report import page as report

_COLUMNS = ("MMAC with perception", "average %",
            "forgetting", "after 1 %", "after 5 %", "after 20 %", "learn ms",
            "step ms", "of it rehearsal", "learned after s", "kept MB")  # fmt: skip
_PLOTS = (
    ("MMAC", 1e-3, "multiply-adds of learning, millions per frame"),
    ("learn ms", 1e-3, "milliseconds of learning per frame"),
    ("kept MB", 1e-2, "megabytes kept for learning"),
)
_MOST_CURVES = 12  # methods that are drawn, the best first


def write_grid(output: Path, name: str, rows: list[Row]) -> str:
    """Write the results of a grid; return its tables as Markdown."""
    text = markdown(rows)
    write_results(output, name, rows, text, lambda: _sections(rows), _by_variant(rows))
    return text


def summaries(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the lines of `summary` for each scenario, in the order in which they were run."""
    names = dict.fromkeys(row["scenario"] for row in rows)
    return {scenario: summary(rows, scenario) for scenario in names}


def overview(tables: dict[str, list[Row]]) -> list[Row]:
    """Return a line for each scenario: our best, the best of the others, the ceiling."""
    lines = []
    for scenario, own in tables.items():
        pair = rivals(own)
        if pair is None:
            continue
        mean, half, n_seeds = difference(*pair)
        ceiling = next((line for line in own if line["method"] in CEILINGS), None)
        lines.append(
            {
                "stream": scenario,
                "seeds": str(n_seeds),
                "our best": pair[0]["method"],
                "%": f"{pair[0]['accuracy %']:.1f}",
                "best of the others": pair[1]["method"],
                "its %": f"{pair[1]['accuracy %']:.1f}",
                "difference": f"{mean:+.1f}" + ("" if half is None else f" ± {half:.1f}"),
                "joint %": f"{ceiling['accuracy %']:.1f}" if ceiling else "",
                "ours on the front": "; ".join(ours_on_front(own)) or "none",
            }
        )
    return lines


def markdown(rows: list[Row], whole: Collection[str] | None = None) -> str:
    """Return an overview, a table for each scenario, and a sentence about our settings.

    Args:
        rows: from `run_grid`.
        whole: scenarios whose tables are shown; all by default.
    """
    tables = summaries(rows)
    parts = [table(overview(tables)), ""]
    for scenario, lines in tables.items():
        if whole is not None and scenario not in whole:
            continue
        n_seeds = max((len(line["seeds"]) for line in lines), default=0)
        shown = [name for name in _COLUMNS if any(line[name] is not None for line in lines)]
        cells = [
            {"method": _name(line, n_seeds), "accuracy %": _accuracy(line),
             "MMAC/frame": line["MMAC"], **{name: line[name] for name in shown}}
            for line in lines
        ]  # fmt: skip
        skipped = {r["method"]: r["skipped"] for r in rows
                   if r["scenario"] == scenario and "skipped" in r}  # fmt: skip
        parts += [f"### {scenario} ({n_seeds} seed{'s' * (n_seeds > 1)})", ""]
        parts += [table(cells), "", claim(lines)]
        parts += [f"Not run: {name} ({reason})." for name, reason in skipped.items()]
        parts.append("")
    return "\n".join(parts).strip()


def _by_variant(rows: list[Row]) -> list[Row]:
    """Return a row for each variant of a method that answered."""
    return [
        {**row, "method": row["method"] + suffix, "accuracy": accuracy,
         "macs_per_frame": row["macs"] / row["n_frames"]}
        for row in rows for suffix, accuracy in row.get("variants", {}).items()
    ]  # fmt: skip


def _name(line: Row, n_seeds: int) -> str:
    n = len(line["seeds"])
    fewer = f" ({n} seed{'s' * (n > 1)})" if n < n_seeds else ""
    return ("* " if line["front"] else "") + line["method"] + fewer


def _accuracy(line: Row) -> str:
    text = f"{line['accuracy %']:.1f}"
    text += f" ± {line['±']:.1f}" if line["±"] is not None else ""
    return f"**{text}**" if line["best"] else f"{text} =" if line["tied"] else text


def _sections(rows: list[Row]) -> list[str]:
    tables = summaries(rows)
    sections = [report.section("Overview", report.table(overview(tables)))]
    for scenario, lines in tables.items():
        drawn = [line for line in lines if line["learn ms"] is not None]  # whole methods
        if not drawn:
            continue
        ours = {line["method"] for line in drawn if line["ours"]}
        plots = [
            report.scatter_plot(
                {x["method"]: (max(x[key], least), x["accuracy %"])
                 for x in drawn if x[key] is not None},
                label, "accuracy %", ours=ours,
            )
            for key, least, label in _PLOTS
        ]  # fmt: skip
        of_methods, intervals = _curves(rows, scenario)
        curves = report.time_plot(
            of_methods, "frames taught", "accuracy on classes met", height=3.6, intervals=intervals
        )
        best = [i for i, line in enumerate(lines) if line["best"]]
        whole = report.table([_shown(line) for line in lines], claim(lines), bold=best)
        sections.append(report.section(scenario, *plots, curves, whole))
    return sections


def _shown(line: Row) -> Row:
    best = "best" if line["best"] else "tied" if line["tied"] else ""
    return {
        "method": line["method"] + (" (front)" if line["front"] else ""),
        "accuracy %": round(line["accuracy %"], 1), "±": line["±"], "best": best,
        "MMAC/frame": cell(line["MMAC"]),
        "MMAC with perception": cell(line["MMAC with perception"]),
        **{name: line[name] for name in MEASURES},
    }  # fmt: skip


def _curves(
    rows: list[Row], scenario: str
) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[float]]]:
    """Return mean curves of the best methods, baselines too, and half the 95 % interval of each.

    The interval is by Student's t over the seeds; there is none for a single seed. Joint training
    has no curve, as it learns when everything has come.
    """
    own = [r for r in rows if r["scenario"] == scenario and r["method"] not in CEILINGS]
    own = [r for r in own if "curve" in r]
    runs: dict[str, list[np.ndarray]] = {}
    for row in own:
        runs.setdefault(row["method"], []).append(np.array(row["curve"], float))
    best = sorted(runs, key=lambda name: -float(np.mean([run[-1, 1] for run in runs[name]])))
    curves, intervals = {}, {}
    for name in best[:_MOST_CURVES]:
        each = np.stack(runs[name])  # (seeds, points, 2)
        curves[name] = [(float(n), float(a)) for n, a in each.mean(axis=0)]
        if len(each) > 1:
            intervals[name] = [half_interval(a) or 0.0 for a in each[:, :, 1].T]
    return curves, intervals
