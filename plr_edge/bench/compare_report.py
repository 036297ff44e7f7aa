"""Results of the comparison: means and intervals, Pareto fronts, paired tests, pages and tables."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge import report
from plr_edge.bench.contenders import OURS
from plr_edge.errors import ConfigError, MissingExtraError
from plr_edge.files import replace_file
from plr_edge.meters.board import describe_machine

Row = dict[str, Any]
CEILING = "joint training"  # learns when all has come, and says nothing before
_ON_THE_WAY = ("average %", "forgetting", "said first %")
# two-sided 95 % points of Student's t with 1 to 9 degrees of freedom
_T95 = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26)
_MEASURES = {
    "average %": ("average_accuracy", 100.0),
    "forgetting": ("forgetting", 100.0),
    "said first %": ("prequential", 100.0),
    "after 1 %": ("after_1", 100.0),
    "after 5 %": ("after_5", 100.0),
    "after 20 %": ("after_20", 100.0),
    "learn ms": ("learn_ms_per_frame", 1.0),
    "answer ms": ("answer_ms_per_frame", 1.0),
    "kept MB": ("memory_bytes", 1e-6),
    "RSS + MB": ("rss_growth_bytes", 1e-6),
    "joules": ("joules", 1.0),
}


def write_results(output: Path, rows: list[Row]) -> None:
    """Write compare.csv, compare.md and, where matplotlib is installed, compare.html."""
    replace_file(output / "compare.csv", to_csv(rows).encode())
    replace_file(output / "compare.md", markdown(rows).encode())
    try:
        report.write_report(output / "compare.html", "plr-edge bench compare", _sections(rows))
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


def summary(rows: list[Row], scenario: str) -> list[Row]:
    """Return one line for each method and what answers, best accuracy first.

    Each has accuracy, half its 95 % interval over seeds, cost in MMAC a frame, the other measures
    as means, whether it is on the Pareto front of accuracy and cost, and whether it is best or
    tied with the best (by a paired test over seeds) of all but the ceiling.
    """
    own = [row for row in rows if row["scenario"] == scenario and "variants" in row]
    lines = []
    for method in dict.fromkeys(row["method"] for row in own):
        of_method = sorted((r for r in own if r["method"] == method), key=lambda r: r["seed"])
        for suffix in of_method[0]["variants"]:
            accuracies = np.array([100 * row["variants"][suffix] for row in of_method])
            lines.append(
                {
                    "method": method + suffix,
                    "ours": method.startswith(OURS),
                    "seeds": [row["seed"] for row in of_method],
                    "accuracies": accuracies,
                    "accuracy %": float(accuracies.mean()),
                    "±": half_interval(accuracies),
                    "MMAC": _mean_of(of_method, "macs_per_frame", 1e-6),
                    **{
                        name: _mean_of(of_method, key, scale)
                        if not suffix and not (method == CEILING and name in _ON_THE_WAY)
                        else None
                        for name, (key, scale) in _MEASURES.items()
                    },
                }
            )
    lines.sort(key=lambda line: -line["accuracy %"])
    _mark(lines)
    return lines


def half_interval(values: np.ndarray) -> float | None:
    """Return half the 95 % interval of a mean (Student's t); None for one value."""
    n = len(values)
    if n < 2:
        return None
    t = _T95[n - 2] if n - 2 < len(_T95) else 1.96
    return float(t * values.std(ddof=1) / math.sqrt(n))


def differ(a: Row, b: Row) -> bool | None:
    """Say whether two methods differ by a paired t-test over their common seeds; None for one."""
    common = sorted(set(a["seeds"]) & set(b["seeds"]))
    if len(common) < 2:
        return None
    by_seed = [dict(zip(x["seeds"], x["accuracies"], strict=True)) for x in (a, b)]
    differences = np.array([by_seed[0][seed] - by_seed[1][seed] for seed in common])
    half = half_interval(differences)
    return half is not None and abs(float(differences.mean())) > half


def pareto(points: list[tuple[float, float]]) -> list[bool]:
    """Say of each (cost, accuracy) that no other is as cheap and better, or cheaper, as good."""
    return [
        not any((c <= cost and a > accuracy) or (c < cost and a >= accuracy) for c, a in points)
        for cost, accuracy in points
    ]


def markdown(rows: list[Row]) -> str:
    """Return a table for each scenario."""
    parts = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        lines = summary(rows, scenario)
        n_seeds = max((len(line["seeds"]) for line in lines), default=0)
        shown = [name for name in ("average %", "forgetting", "after 1 %", "after 5 %",
                                   "after 20 %", "learn ms", "kept MB")
                 if any(line[name] is not None for line in lines)]  # fmt: skip
        head = ["method", "accuracy %", "MMAC/frame", *shown]
        parts.append(f"### {scenario} ({n_seeds} seed{'s' * (n_seeds > 1)})\n\n"
                     f"| {' | '.join(head)} |\n|{'---|' * len(head)}")  # fmt: skip
        for line in lines:
            accuracy = f"{line['accuracy %']:.1f}"
            accuracy += f" ± {line['±']:.1f}" if line["±"] is not None else ""
            accuracy = f"**{accuracy}**" if line["best"] else accuracy
            name = ("* " if line["front"] else "") + line["method"]
            cells = [name, accuracy, _cell(line["MMAC"]), *(_cell(line[s]) for s in shown)]
            parts.append(f"| {' | '.join(cells)} |")
        skipped = {r["method"]: r["skipped"] for r in rows
                   if r["scenario"] == scenario and "skipped" in r}  # fmt: skip
        parts += [f"\nNot run: {name} ({reason})." for name, reason in skipped.items()]
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
        row = {**row, "macs_per_frame": _per_frame(row)}
        for suffix, accuracy in row.get("variants", {}).items():
            writer.writerow([row["scenario"], row["method"] + suffix, row["seed"], accuracy,
                             *(row.get(key, "") for key in keys)])  # fmt: skip
    return text.getvalue()


def _mark(lines: list[Row]) -> None:
    points = [(line["MMAC"] or 0.0, line["accuracy %"]) for line in lines]
    for line, front in zip(lines, pareto(points), strict=True):
        line["front"], line["best"] = front, False
    others = [line for line in lines if line["method"] != CEILING]
    for line in others:
        line["best"] = line is others[0] or differ(line, others[0]) is False


def _sections(rows: list[Row]) -> list[str]:
    sections = [report.section("Machine", report.table([describe_machine()]))]
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        lines = summary(rows, scenario)
        if not lines:
            continue
        shown = [
            {
                "method": line["method"] + (" (front)" if line["front"] else ""),
                "accuracy %": round(line["accuracy %"], 1),
                "±": line["±"],
                "best": "tied or best" if line["best"] else "",
                "MMAC/frame": line["MMAC"],
                **{name: line[name] for name in _MEASURES},
            }
            for line in lines
        ]
        sections.append(
            report.section(
                scenario,
                report.scatter_plot(
                    {x["method"]: (max(x["MMAC"] or 0, 1e-3), x["accuracy %"]) for x in lines},
                    "multiply-adds of learning, millions a frame", "accuracy %",
                ),
                report.scatter_plot(
                    {x["method"]: (max(x["learn ms"], 1e-3), x["accuracy %"]) for x in lines
                     if x["learn ms"] is not None},
                    "milliseconds of learning a frame", "accuracy %",
                ),
                report.line_plot(_curves(rows, scenario), "look", "accuracy on classes met"),
                report.table(shown),
            )
        )  # fmt: skip
    return sections


def _curves(rows: list[Row], scenario: str) -> dict[str, np.ndarray]:
    own = [r for r in rows if r["scenario"] == scenario and "curve" in r]
    curves = {}
    for name in dict.fromkeys(row["method"] for row in own):
        if name.startswith(("plr", "ridge", "internal", "streaming", "AR1")):
            curves[name] = np.mean(
                [[a for _, a in row["curve"]] for row in own if row["method"] == name], axis=0
            )
    return curves


def _per_frame(row: Row) -> float | None:
    return row["macs"] / row["n_frames"] if row.get("macs") is not None else None


def _mean_of(rows: list[Row], key: str, scale: float) -> float | None:
    values = [_per_frame(r) if key == "macs_per_frame" else r.get(key) for r in rows]
    held = [value for value in values if value is not None]
    return float(np.mean(held)) * scale if held else None


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
