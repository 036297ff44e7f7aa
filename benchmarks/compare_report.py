"""Pages and tables of the comparison: HTML, Markdown, CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare_summary import (
    CEILING,
    MEASURES,
    claim,
    difference,
    ours_on_front,
    per_frame,
    rivals,
    summary,
)
from plr_edge.errors import ConfigError, MissingExtraError
from plr_edge.files import replace_file
from plr_edge.meters.board import describe_machine
from plr_edge.report import page as report

Row = dict[str, Any]
_COLUMNS = ("average %", "forgetting", "forward transfer", "after 1 %", "after 5 %", "after 20 %",
            "learn ms", "learned after s", "kept MB")  # fmt: skip


def write_results(output: Path, rows: list[Row], facts: Row) -> None:
    """Write compare.csv, compare.md and, where matplotlib is installed, compare.html.

    Args:
        facts: the command and the versions.
    """
    replace_file(output / "compare.csv", to_csv(rows).encode())
    replace_file(output / "compare.md", markdown(rows).encode())
    try:
        sections = _sections(rows, facts)
        report.write_report(output / "compare.html", "python -m benchmarks compare", sections)
    except MissingExtraError:
        return


def put_between_marks(file: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- /NAME -->` in a Markdown file.

    Raises:
        ConfigError: the file has no such marks.
    """
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = old.partition(first)
    _, ended, after = rest.partition(last)
    if not found or not ended:
        raise ConfigError(f"{file} has no lines {first} and {last}; put them where tables belong")
    replace_file(file, f"{before}{first}\n{text.strip()}\n{last}{after}".encode())


def summaries(rows: list[Row]) -> dict[str, list[Row]]:
    """Return the lines of `summary` for each scenario, in the order in which they were run."""
    names = dict.fromkeys(row["scenario"] for row in rows)
    return {scenario: summary(rows, scenario) for scenario in names}


def overview(tables: dict[str, list[Row]]) -> list[Row]:
    """Return a line for each scenario: our best, the best of the others, the ceiling."""
    table = []
    for scenario, lines in tables.items():
        pair = rivals(lines)
        if pair is None:
            continue
        mean, half, n_seeds = difference(*pair)
        ceiling = next((line for line in lines if line["method"] == CEILING), None)
        table.append(
            {
                "stream": scenario,
                "seeds": str(n_seeds),
                "our best": pair[0]["method"],
                "%": f"{pair[0]['accuracy %']:.1f}",
                "best of the others": pair[1]["method"],
                "its %": f"{pair[1]['accuracy %']:.1f}",
                "difference": f"{mean:+.1f}" + ("" if half is None else f" ± {half:.1f}"),
                "joint %": f"{ceiling['accuracy %']:.1f}" if ceiling else "",
                "ours on the front": "; ".join(ours_on_front(lines)) or "none",
            }
        )
    return table


def markdown(rows: list[Row]) -> str:
    """Return an overview, a table for each scenario, and what it says of ours."""
    tables = summaries(rows)
    parts = [_markdown_table(overview(tables)), ""]
    for scenario, lines in tables.items():
        n_seeds = max((len(line["seeds"]) for line in lines), default=0)
        shown = [name for name in _COLUMNS if any(line[name] is not None for line in lines)]
        table = [
            {"method": _name(line, n_seeds), "accuracy %": _accuracy(line),
             "MMAC/frame": _cell(line["MMAC"]), **{name: _cell(line[name]) for name in shown}}
            for line in lines
        ]  # fmt: skip
        skipped = {r["method"]: r["skipped"] for r in rows
                   if r["scenario"] == scenario and "skipped" in r}  # fmt: skip
        parts += [f"### {scenario} ({n_seeds} seed{'s' * (n_seeds > 1)})", ""]
        parts += [_markdown_table(table), "", claim(lines)]
        parts += [f"Not run: {name} ({reason})." for name, reason in skipped.items()]
        parts.append("")
    return "\n".join(parts)


def to_csv(rows: list[Row]) -> str:
    """Return every row and what answered in it."""
    keys = ("learn_s", "macs_per_frame", "memory_bytes", "rss_growth_bytes", "peak_rss_bytes",
            "average_accuracy", "forgetting", "backward_transfer", "forward_transfer",
            "prequential", "after_1", "after_5", "after_20", "learn_ms_per_frame",
            "answer_ms_per_frame", "joules")  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["scenario", "method", "seed", "accuracy", *keys])
    for row in rows:
        row = {**row, "macs_per_frame": per_frame(row)}
        for suffix, accuracy in row.get("variants", {}).items():
            writer.writerow([row["scenario"], row["method"] + suffix, row["seed"], accuracy,
                             *(row.get(key, "") for key in keys)])  # fmt: skip
    return text.getvalue()


def _markdown_table(rows: list[Row]) -> str:
    head = [list(rows[0]), ["---"] * len(rows[0])] if rows else []
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [*head, *(r.values() for r in rows)])


def _name(line: Row, n_seeds: int) -> str:
    n = len(line["seeds"])
    fewer = f" ({n} seed{'s' * (n > 1)})" if n < n_seeds else ""
    return ("* " if line["front"] else "") + line["method"] + fewer


def _accuracy(line: Row) -> str:
    text = f"{line['accuracy %']:.1f}"
    text += f" ± {line['±']:.1f}" if line["±"] is not None else ""
    return f"**{text}**" if line["best"] else f"{text} =" if line["tied"] else text


def _sections(rows: list[Row], facts: Row) -> list[str]:
    tables = summaries(rows)
    machine = report.table([{**describe_machine(), **facts}])
    sections = [
        report.section("Overview", report.table(overview(tables))),
        report.section("Machine", machine),
    ]
    for scenario, lines in tables.items():
        if not lines:
            continue
        drawn = [line for line in lines if line["learn ms"] is not None]  # whole methods
        plots = [
            report.scatter_plot(
                {x["method"]: (max(x[key], least), x["accuracy %"])
                 for x in drawn if x[key] is not None},
                label, "accuracy %", ours={x["method"] for x in drawn if x["ours"]},
            )
            for key, least, label in (
                ("MMAC", 1e-3, "multiply-adds of learning, millions a frame"),
                ("learn ms", 1e-3, "milliseconds of learning a frame"),
                ("kept MB", 1e-2, "megabytes kept for learning"),
            )
        ]  # fmt: skip
        curves = report.time_plot(
            _curves(rows, scenario), "frames taught", "accuracy on classes met", height=3.6
        )
        best = [i for i, line in enumerate(lines) if line["best"]]
        table = report.table([_shown(line) for line in lines], claim(lines), bold=best)
        sections.append(report.section(scenario, *plots, curves, table))
    return sections


def _shown(line: Row) -> Row:
    best = "best" if line["best"] else "tied" if line["tied"] else ""
    return {
        "method": line["method"] + (" (front)" if line["front"] else ""),
        "accuracy %": round(line["accuracy %"], 1), "±": line["±"], "best": best,
        "MMAC/frame": line["MMAC"], **{name: line[name] for name in MEASURES},
    }  # fmt: skip


def _curves(rows: list[Row], scenario: str) -> dict[str, list[tuple[float, float]]]:
    own = [r for r in rows if r["scenario"] == scenario and "curve" in r]
    curves = {}
    for name in dict.fromkeys(row["method"] for row in own):
        if name.startswith(("plr", "ridge", "internal", "streaming", "AR1")):
            mean = np.mean([row["curve"] for row in own if row["method"] == name], axis=0)
            curves[name] = [(float(n), float(accuracy)) for n, accuracy in mean]
    return curves


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
