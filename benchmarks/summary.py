"""Means and intervals over seeds, paired tests, and Pareto fronts."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import t as student

from benchmarks.methods.registry import CEILINGS, METHODS
from benchmarks.results import Row
from plr_edge.metrics import pareto

_ON_THE_WAY = ("average %", "forgetting", "said first %")
MEASURES = {
    "average %": ("average_accuracy", 100.0),
    "forgetting": ("forgetting", 100.0),
    "said first %": ("prequential", 100.0),
    "after 1 %": ("after_1", 100.0),
    "after 5 %": ("after_5", 100.0),
    "after 20 %": ("after_20", 100.0),
    "learn s": ("learn_s", 1.0),
    "learn ms": ("learn_ms_per_frame", 1.0),
    "learned after s": ("learned_after_s", 1.0),
    "step ms": ("step_ms", 1.0),
    "of it rehearsal": ("rehearsal_ms", 1.0),
    "answer ms": ("answer_ms_per_frame", 1.0),
    "kept MB": ("memory_bytes", 1e-6),
    "RSS + MB": ("rss_growth_bytes", 1e-6),
    "peak RSS MB": ("peak_rss_bytes", 1e-6),
    "joules": ("joules", 1.0),
}


def summary(rows: list[Row], scenario: str) -> list[Row]:
    """Return one line for each method and variant, best accuracy first.

    Each has accuracy, half its 95 % interval over seeds, cost in MMAC per frame, the other measures
    as means, whether it is on the Pareto front of accuracy and cost, and whether it is best or
    tied with the best (by a paired test over seeds) of all but the ceiling.
    """
    own = [row for row in rows if row["scenario"] == scenario and "variants" in row]
    lines = []
    for method in dict.fromkeys(row["method"] for row in own):
        of_method = sorted((r for r in own if r["method"] == method), key=lambda r: r["seed"])
        lines += [_line(method, suffix, of_method) for suffix in of_method[0]["variants"]]
    lines.sort(key=lambda line: -line["accuracy %"])
    _mark(lines)
    return lines


def _line(method: str, suffix: str, rows: list[Row]) -> Row:
    macs = float(np.mean([row["macs"] / row["n_frames"] for row in rows]))
    perception = rows[0].get("perception_macs_per_frame")
    accuracies = np.array([100 * row["variants"][suffix] for row in rows])
    whole, ceiling = not suffix, method in CEILINGS
    measures = {
        name: _mean([row.get(key) for row in rows], scale)
        if whole and not (ceiling and name in _ON_THE_WAY) else None
        for name, (key, scale) in MEASURES.items()
    }  # fmt: skip
    return {
        "method": method + suffix,
        "ours": method in METHODS and METHODS[method].ours,
        "seeds": [row["seed"] for row in rows],
        "accuracies": accuracies,
        "accuracy %": float(accuracies.mean()),
        "±": half_interval(accuracies),
        "MMAC": macs * 1e-6,
        "MMAC with perception": None if perception is None else (macs + perception) * 1e-6,
        **measures,
    }


def half_interval(values: np.ndarray) -> float | None:
    """Return half the 95 % interval of a mean (Student's t); None for one value."""
    n = len(values)
    if n < 2:
        return None
    return float(student.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))


def difference(a: Row, b: Row) -> tuple[float, float | None, int]:
    """Return the mean difference of two methods over their common seeds.

    Returns:
        a - b in points; half its 95 % interval by a paired t-test, None for a single seed; seeds.
    """
    common = sorted(set(a["seeds"]) & set(b["seeds"]))
    by_seed = [dict(zip(x["seeds"], x["accuracies"], strict=True)) for x in (a, b)]
    differences = np.array([by_seed[0][seed] - by_seed[1][seed] for seed in common])
    if not common:
        return float("nan"), None, 0
    return float(differences.mean()), half_interval(differences), len(common)


def differ(a: Row, b: Row) -> bool | None:
    """Whether two methods differ by a paired t-test over their common seeds; None for one seed."""
    mean, half, _ = difference(a, b)
    return None if half is None else abs(mean) > half


def rivals(lines: list[Row]) -> tuple[Row, Row] | None:
    """Return our best and the best of the others but the ceiling, if they share a seed.

    Args:
        lines: from `summary`.
    """
    ours = next((line for line in lines if line["ours"]), None)
    other = next((x for x in lines if not x["ours"] and x["method"] not in CEILINGS), None)
    if ours is None or other is None or not set(ours["seeds"]) & set(other["seeds"]):
        return None
    return ours, other


def claim(lines: list[Row]) -> str:
    """Return a sentence: how far our best is above the best of the others but the ceiling.

    Args:
        lines: from `summary`.
    """
    pair = rivals(lines)
    if pair is None:
        return ""
    ours, other = pair
    mean, half, n_seeds = difference(ours, other)
    spread = "one seed, no interval" if half is None else f"± {half:.1f}, {n_seeds} seeds, paired t"
    front = ", ".join(f"`{name}`" for name in ours_on_front(lines)) or "none of ours"
    return (
        f"`{ours['method']}` minus `{other['method']}`, the best that is not ours: {mean:+.1f} "
        f"points ({spread}). On the front of accuracy and multiply-adds: {front}."
    )


def ours_on_front(lines: list[Row]) -> list[str]:
    """Return the names of our settings that nothing as cheap beats, the best first."""
    return [line["method"] for line in lines if line["ours"] and line["front"]]


def _mark(lines: list[Row]) -> None:
    points = [(line["MMAC"], line["accuracy %"]) for line in lines]
    for line, front in zip(lines, pareto(points), strict=True):
        line["front"], line["best"], line["tied"] = front, False, False
    others = [line for line in lines if line["method"] not in CEILINGS]
    for line in others:
        line["best"] = line is others[0]
        line["tied"] = not line["best"] and differ(line, others[0]) is False


def _mean(values: list[float | None], scale: float) -> float | None:
    held = [value for value in values if value is not None]
    return float(np.mean(held)) * scale if held else None
