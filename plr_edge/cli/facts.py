"""Prints facts for people: names without underscores, values with their units.

The names are those of the JSON, whose units end them. JSON itself is left to the commands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from plr_edge.cli.options import printable

_NAMES = {  # where the name of the JSON says little
    "canary": "held-out labels",
    "canary.n": "number",
    "unknown_per_hour": "unknown, change per hour",
    "confidence_per_hour": "confidence, change per hour",
    "latency_ms_p50": "latency, median",
    "latency_ms_p99": "latency, 99th percentile",
    "n_taught": "taught",
    "n_quarantined": "quarantined",
}
_SHARES = ("unknown_ratio", "unknown_per_hour", "canary.before", "canary.after",
           "canary.false_alarm", "parity.top1_agreement")  # fmt: skip
_UNITS = {"_ms": " ms", "_ms_p50": " ms", "_ms_p99": " ms", "_w": " W", "_j": " J", "_c": " C",
          "_s": " s"}  # fmt: skip
_NOT_UNITS = ("frames_per_s", "steps_per_s")


def print_facts(facts: Mapping[str, Any]) -> None:
    """Print one fact in a line. None is absent."""
    rows = [(label_of(name), text_of(name, value)) for name, value in facts.items()]
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        click.echo(f"{label:>{width}}  {printable(text)}")


def label_of(name: str) -> str:
    """Return the name of a fact for people."""
    if name in _NAMES:
        return _NAMES[name]
    name = name.rpartition(".")[2]
    for end in ("_bytes", "_ratio", *_UNITS):
        if name.endswith(end) and name not in _NOT_UNITS:
            name = name.removesuffix(end)
    return name.replace("_per_s", " per second").replace("_", " ")


def text_of(name: str, value: Any) -> str:
    """Return a value for people.

    Args:
        name: its name, which ends in a unit. That of a part is `whole.part`.
        value: a value that fits JSON.
    """
    if value is None:
        return "absent"
    if isinstance(value, Mapping):
        return _parts(name, value) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(text_of(name, one) for one in value) or "none"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if name in _SHARES or name.endswith("_ratio"):
        return f"{value:.1%}"
    if name.endswith("_bytes") or name.partition(".")[0] == "bytes":
        return f"{value / 1e6:,.1f} MB" if value >= 1e5 else f"{value:,.0f} bytes"
    unit = next((u for end, u in _UNITS.items() if name.endswith(end)), "")
    unit = "" if name.endswith(_NOT_UNITS) else unit
    whole = isinstance(value, int) or abs(value) >= 1000
    return (f"{value:,.0f}" if whole else f"{value:.3g}") + unit


def _parts(name: str, parts: Mapping[str, Any]) -> str:
    """Return the parts of a value on one line."""
    texts = []
    for key, value in parts.items():
        whole = f"{name}.{key}"
        if isinstance(value, Mapping):
            texts.append(f"{key} ({text_of(whole, value)})")
        else:
            texts.append(f"{label_of(whole)} {text_of(whole, value)}")
    return ", ".join(texts)
