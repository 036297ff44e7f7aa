"""Tables and pictures of `python -m benchmarks consolidation`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.results import Row, table, write_results
from benchmarks.summary import half_interval
from plr_edge.report import page as report

_STORED = ("memory_bytes", "bits", "pool", "side")


def write(output: Path, rows: list[Row]) -> str:
    """Write the results; return their tables as Markdown."""
    text = markdown(rows)
    write_results(output, "consolidation", rows, text, lambda: _sections(_measured(rows)))
    return text


def markdown(rows: list[Row]) -> str:
    """Return a table for each stream, with a line for each storage, schedule and ratio."""
    measured = _measured(rows)
    parts = []
    for stream in dict.fromkeys(row["stream"] for row in measured):
        lines = [_line(own) for own in _groups(measured, stream)]
        parts += [f"### {stream}", "", table(lines), ""]
    skipped = sorted({row["skipped"] for row in rows if "skipped" in row})
    parts += [f"Left out: {reason}." for reason in skipped]
    return "\n".join(parts).rstrip()


def _measured(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "skipped" not in row]


def _groups(rows: list[Row], stream: str) -> list[list[Row]]:
    """Return the seeds of each setting of a stream, in the order of the rows."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row["stream"] == stream:
            key = (*(row[name] for name in _STORED), row["schedule"], row["ratio"])
            groups.setdefault(key, []).append(row)
    return list(groups.values())


def _line(rows: list[Row]) -> Row:
    first, percents = rows[0], 100 * np.array([row["accuracy"] for row in rows])
    half = half_interval(percents)
    return {
        "schedule": first["schedule"],
        "ratio": f"{first['ratio']:g}",
        "accuracy %": f"{percents.mean():.1f}" + ("" if half is None else f" ± {half:.1f}"),
        "seeds": str(len(rows)),
        "trained on": f"{first['side']}x{first['side']}" if first["side"] else "whole maps",
        "pooled to": str(first["pool"] or "-"),
        "bits": str(first["bits"]),
        "bytes a latent": f"{first['latent_bytes']:,}",
        "memory MB": f"{first['memory_bytes'] / 1e6:g}",
        "latents": f"{first['n_latents']:,}",
        "MMAC a sample and step": f"{first['step_macs'] / 1e6:.1f}",
        "MMAC a frame": f"{np.mean([row['macs'] / row['n_labels'] for row in rows]) / 1e6:.1f}",
        "seconds": f"{np.mean([row['seconds'] for row in rows]):.0f}",
        "published": "yes" if all(row["published"] for row in rows) else "not always",
    }


def _sections(rows: list[Row]) -> list[str]:
    return [
        report.section(
            stream,
            report.paragraph("Accuracy over multiply-adds of training for each frame."),
            _plot(_groups(rows, stream), lambda row: row["macs"] / row["n_labels"] / 1e6,
                  "MMAC a frame", ("schedule", "side")),
            report.paragraph("Accuracy over bytes of a latent, at the largest ratio."),
            _plot(_at_most(_groups(rows, stream)), lambda row: row["latent_bytes"],
                  "bytes a latent", ("side", "memory_bytes")),
            report.table([_line(own) for own in _groups(rows, stream)]),
        )
        for stream in dict.fromkeys(row["stream"] for row in rows)
    ]  # fmt: skip


def _at_most(groups: list[list[Row]]) -> list[list[Row]]:
    largest = max(own[0]["ratio"] for own in groups)
    return [own for own in groups if own[0]["ratio"] == largest]


def _plot(groups: list[list[Row]], x: object, label: str, names: tuple[str, ...]) -> str:
    curves: dict[str, list[tuple[float, float]]] = {}
    for own in groups:
        name = ", ".join(f"{key.replace('_', ' ')} {own[0][key]}" for key in names)
        point = (float(x(own[0])), float(np.mean([row["accuracy"] for row in own])))  # type: ignore[operator]
        curves.setdefault(name, []).append(point)
    return report.line_plot(
        {name: np.array(sorted(points)) for name, points in curves.items()}, label, "accuracy"
    )
