"""Tables and pictures of `python -m benchmarks unknown`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.results import Row, table, write_results
from benchmarks.summary import half_interval
from benchmarks.unknown import ASKED, COMBINED
from plr_edge.report import page as report

_WITHIN = 1 / 3  # of the rate asked for


def write(output: Path, rows: list[Row]) -> str:
    """Write the results; return their tables as Markdown."""
    text = markdown(rows)
    write_results(output, "unknown", rows, text, lambda: _sections(rows), _flat(rows))
    return text


def markdown(rows: list[Row]) -> str:
    """Return a line for each stream, then one for each score of each stream."""
    streams = _by_stream(rows)
    overview = [_overview(name, own) for name, own in streams.items()]
    scores = [
        _line(name, score, own)
        for name, own in streams.items() for score in _scored(own)
    ]  # fmt: skip
    parts = [table(overview)]
    if scores:
        parts += ["", table(scores), "", _verdict(rows)]
    left_out = [name for name, own in streams.items() if not _scored(own)]
    if left_out:
        parts += ["", f"Too few frames of a class to fit a threshold: {', '.join(left_out)}."]
    return "\n".join(parts)


def _by_stream(rows: list[Row]) -> dict[str, list[Row]]:
    names = dict.fromkeys(row["stream"] for row in rows)
    return {name: [row for row in rows if row["stream"] == name] for name in names}


def _scored(rows: list[Row]) -> list[str]:
    """Return the scores that can be told for a stream: strangers and a threshold are needed."""
    return [name for name, facts in rows[0]["scores"].items() if "auroc" in facts]


def _overview(stream: str, rows: list[Row]) -> Row:
    line = {
        "stream": stream,
        "seeds": str(len(rows)),
        "classes held back": str(rows[0]["n_held_back"]),
        "known frames": str(rows[0]["n_known"]),
        "strangers": str(rows[0]["n_strangers"]),
        "accuracy % on known": _percent([row["calibration"]["accuracy"] for row in rows]),
        "calibration error %": _percent([row["calibration"]["error"] for row in rows]),
        "with every class taught %": _percent([x["calibration_of_all"]["error"] for x in rows]),
    }
    return line


def _line(stream: str, score: str, rows: list[Row]) -> Row:
    own = [row["scores"][score] for row in rows]
    flagged = {
        f"flagged at {share:.0%}: known / strangers %": " / ".join(
            _percent([one[key][i] for one in own]) for key in ("flagged_known", "flagged_strangers")
        )
        for i, share in enumerate(ASKED)
    }
    return {
        "stream": stream,
        "score": f"**{score}**" if score == COMBINED else score,
        "AUROC": f"{np.mean([one['auroc'] for one in own]):.3f}",
        "FPR at 95 % TPR": _percent([one["fpr_at_95_tpr"] for one in own]),
        **flagged,
        "strangers at exactly 5 %": _percent([one["strangers_at_exactly"][-1] for one in own]),
    }


def _verdict(rows: list[Row]) -> str:
    """Return a sentence: how often the rate asked for is the rate given."""
    given = [
        (share, np.mean([row["scores"][COMBINED]["flagged_known"][i] for row in own]))
        for own in _by_stream(rows).values() if COMBINED in own[0]["scores"]
        for i, share in enumerate(ASKED)
    ]  # fmt: skip
    n_kept = sum(bool(abs(rate - share) <= _WITHIN * share) for share, rate in given)
    return (
        f"The share of known frames flagged is within a third of the one asked for in {n_kept} of "
        f"{len(given)} cases."
    )


def _percent(values: list[float]) -> str:
    percents = 100 * np.array(values)
    half = half_interval(percents)
    return f"{percents.mean():.1f}" + ("" if half is None else f" ± {half:.1f}")


def _flat(rows: list[Row]) -> list[Row]:
    """Return a row for each score of each run."""
    return [
        {"stream": row["stream"], "seed": row["seed"], "score": name,
         "auroc": facts.get("auroc"), "fpr_at_95_tpr": facts.get("fpr_at_95_tpr"),
         "calibration_error": row["calibration"]["error"],
         **{f"{key} at {share:.0%}": facts[key][i]
            for key in ("flagged_known", "flagged_strangers") if key in facts
            for i, share in enumerate(ASKED)}}
        for row in rows for name, facts in row["scores"].items()
    ]  # fmt: skip


def _sections(rows: list[Row]) -> list[str]:
    streams = _by_stream(rows)
    titles = {
        "calibration": "Frames of the classes taught; every fifth class was held back.",
        "calibration_of_all": "Every class was taught.",
    }
    reliability = [
        report.paragraph(title) + _reliability(streams, key) for key, title in titles.items()
    ]
    lines = [_line(name, score, own) for name, own in streams.items() for score in _scored(own)]
    overview = [_overview(name, own) for name, own in streams.items()]
    return [
        report.section("Is the confidence the share of right answers?", *reliability),
        report.section("Is the rate given the rate asked for?", _given(streams)),
        report.section("Streams", report.table(overview), report.table(lines)),
    ]


def _reliability(streams: dict[str, list[Row]], key: str) -> str:
    """Draw the share of right answers over the confidence, of the first seed."""
    curves = {"as it should be": [(0.0, 0.0), (1.0, 1.0)]}
    curves |= {
        name: [(mean, share) for mean, share, _ in own[0][key]["bins"]]
        for name, own in streams.items()
    }
    return report.time_plot(curves, "confidence", "share of right answers", height=4.0)


def _given(streams: dict[str, list[Row]]) -> str:
    """Draw the share of known frames flagged over the share that may be, of the first seed."""
    percents = [100 * share for share in ASKED]
    curves = {"as it should be": [(0.0, 0.0), (percents[-1], percents[-1])]}
    curves |= {
        name: [
            (asked, 100 * rate)
            for asked, rate in zip(
                percents, own[0]["scores"][COMBINED]["flagged_known"], strict=True
            )
        ]
        for name, own in streams.items()
        if COMBINED in own[0]["scores"]
    }
    return report.time_plot(
        curves, "known frames that may be flagged, %", "known frames flagged, %", height=4.0
    )
