"""Results of the fleet: what each way to share costs in bytes and gains in accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare_summary import half_interval
from plr_edge.errors import MissingExtraError
from plr_edge.files import replace_file
from plr_edge.report import page as report

Row = dict[str, Any]


def write_results(output: Path, settings: Any, rows: list[Row]) -> None:
    """Write fleet.json and, where matplotlib is installed, fleet.html.

    Args:
        settings: JSON of what the rows were made with.
    """
    kept = {"settings": settings, "rows": rows}
    replace_file(output / "fleet.json", json.dumps(kept, indent=1).encode())
    try:
        sections = [_section(classes, rows) for classes in _in_order(rows, "classes")]
        report.write_report(output / "fleet.html", "python -m benchmarks fleet", sections)
    except MissingExtraError:
        return


def read_rows(output: Path, settings: Any) -> list[Row]:
    """Return the rows kept so far of the same settings."""
    file = output / "fleet.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    return list(kept["rows"]) if kept.get("settings") == settings else []


def summary(rows: list[Row], classes: str) -> list[Row]:
    """Return a line for each way to share: bytes a robot sends, accuracy over robots and seeds."""
    own = [row for row in rows if row["classes"] == classes]
    lines = []
    for sent, answers in dict.fromkeys((row["sent"], row["answers"]) for row in own):
        group = [row for row in own if (row["sent"], row["answers"]) == (sent, answers)]
        by_seed = np.array([100 * np.mean(row["accuracies"]) for row in group])
        sizes = [row["bytes"] for row in group if row["bytes"] is not None]
        lines.append(
            {
                "sent": sent,
                "answers": answers,
                "kB a robot": float(np.mean(sizes)) / 1e3 if sizes else None,
                "accuracy %": float(by_seed.mean()),
                "±": half_interval(by_seed),
            }
        )
    return lines


def markdown(rows: list[Row], what: str) -> str:
    """Return one table, the two ways in which classes are shared out beside each other."""
    kinds = _in_order(rows, "classes")
    tables = {kind: summary(rows, kind) for kind in kinds}
    head = ["sent", "answers with", *(f"{kind}: {x}" for kind in kinds for x in ("kB", "%"))]
    lines = [what, "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for i, line in enumerate(tables[kinds[0]]):
        cells = [line["sent"], line["answers"]]
        for kind in kinds:
            one = tables[kind][i]
            spread = "" if one["±"] is None else f" ± {one['±']:.1f}"
            size = "" if one["kB a robot"] is None else f"{one['kB a robot']:,.0f}"
            cells += [size, f"{one['accuracy %']:.1f}{spread}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _section(classes: str, rows: list[Row]) -> str:
    lines = summary(rows, classes)
    points = {
        f"{line['sent']}: {line['answers']}": (max(line["kB a robot"], 1.0), line["accuracy %"])
        for line in lines
        if line["kB a robot"] is not None
    }
    return report.section(
        f"{classes} classes",
        report.scatter_plot(points, "kilobytes that a robot sends (1: none)", "accuracy %"),
        report.table(lines),
    )


def _in_order(rows: list[Row], key: str) -> list[str]:
    return list(dict.fromkeys(row[key] for row in rows))
