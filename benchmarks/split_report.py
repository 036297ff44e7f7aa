"""Results of a split as CSV and one self-contained page."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import MissingExtraError
from plr_edge.files import replace_file
from plr_edge.report import page as report

Row = dict[str, Any]


def write_results(output: Path, name: str, rows: list[Row]) -> None:
    """Write NAME.csv, and NAME.html where matplotlib is installed."""
    replace_file(output / f"{name}.csv", _csv(rows).encode())
    try:
        report.write_report(
            output / f"{name}.html", f"python -m benchmarks {name}", _sections(rows)
        )
    except MissingExtraError:
        return


def summary(rows: list[Row]) -> list[Row]:
    """Return one row a method: means over seeds, and half the 95 % interval of the accuracy."""
    lines = []
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        accuracies = 100 * np.array([row["accuracy"] for row in own])
        spread = 1.96 * accuracies.std(ddof=1) / len(own) ** 0.5 if len(own) > 1 else np.nan
        steps = own[0].get("n_steps")
        macs = np.mean([sum(row["macs"].values()) for row in own]) if "macs" in own[0] else None
        joules = [row["joules"] for row in own if row.get("joules") is not None]
        wall_s = float(np.median([row["wall_s"] for row in own]))
        lines.append(
            {
                "method": name,
                "seeds": len(own),
                "accuracy %": float(accuracies.mean()),
                "± (95 %)": None if np.isnan(spread) else float(spread),
                "wall s": wall_s,
                "ms a step": 1e3 * wall_s / steps if steps else None,
                "rehearsal ms a step": _rehearsal_ms(own),
                "GMAC in all": None if macs is None else float(macs / 1e9),
                "joules": float(np.median(joules)) if joules else None,
                "kept kB": own[0]["kept_bytes"] / 1e3 if "kept_bytes" in own[0] else None,
            }
        )
    return lines


def _points(rows: list[Row], key: str) -> dict[str, tuple[float, float]]:
    lines = summary(rows)
    return {line["method"]: (line[key], line["accuracy %"]) for line in lines if line[key]}


def _rehearsal_ms(own: list[Row]) -> float | None:
    """Decoding, targets and the classifier's pass over what was rehearsed."""
    if "seconds" not in own[0]:
        return None
    parts = ("decode", "targets", "rehearsal")
    each = [sum(row["seconds"][part] for part in parts) / row["n_steps"] for row in own]
    return float(1e3 * np.median(each))


def _sections(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(row["method"] for row in rows)
    mean = {
        name: {
            key: np.mean([row[key] for row in rows if row["method"] == name], axis=0)
            for key in ("curve", "per_experience", "drift", "shares")
            if all(key in row for row in rows if row["method"] == name)
        }
        for name in names
    }
    over_time = {n: m["curve"][:, 1] for n, m in mean.items() if "curve" in m}
    parts: list[Row] = [
        {
            "method": name,
            **{p: float(np.median([r["seconds"][p] for r in own])) for p in own[0]["seconds"]},
        }
        for name in names
        if "seconds" in (own := [row for row in rows if row["method"] == name])[0]
    ]
    return [
        report.section("Final accuracy", report.table(summary(rows))),
        report.section(
            "Accuracy over experiences",
            report.paragraph("On all classes seen so far, mean over seeds."),
            report.line_plot(over_time, "experience", "share right"),
        ),
        report.section(
            "What the accuracy costs",
            report.scatter_plot(
                _points(rows, "wall s"), "seconds of all experiences", "accuracy %"
            ),
            report.scatter_plot(_points(rows, "GMAC in all"), "GMAC in all", "accuracy %"),
            report.scatter_plot(_points(rows, "joules"), "joules", "accuracy %")
            if _points(rows, "joules")
            else report.paragraph("Joules are absent: this machine has no counter to read."),
        ),
        report.section("Seconds by part", report.table(parts)),
        report.section(
            "Each experience at the end",
            report.table(
                [{"method": n, **_numbered(m["per_experience"])} for n, m in mean.items()]
            ),
        ),
        report.section(
            "Drift of each hidden layer",
            report.paragraph(
                "1 - cosine of features of the first classes, first to last experience."
            ),
            report.table(
                [{"method": n, **_numbered(m["drift"])} for n, m in mean.items() if "drift" in m]
            ),
        ),
        report.section(
            "Shares of the levels",
            report.table(
                [{"method": n, **_numbered(m["shares"])} for n, m in mean.items() if "shares" in m]
            ),
        ),
    ]


def _numbered(values: np.ndarray) -> dict[str, float]:
    return {str(i): round(float(value), 3) for i, value in enumerate(values, 1)}


def _csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["method", "seed", "accuracy", "wall_s", "gmacs", "kept_bytes"])
    for row in rows:
        macs = sum(row["macs"].values()) / 1e9 if "macs" in row else ""
        writer.writerow(
            [
                row["method"],
                row["seed"],
                row["accuracy"],
                row["wall_s"],
                macs,
                row.get("kept_bytes", ""),
            ]
        )
    return text.getvalue()
