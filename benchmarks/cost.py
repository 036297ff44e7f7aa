"""Cost of the commands themselves: the demo, `adapt`, `predict`, a frame and a training step."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.results import Row, table
from benchmarks.runner import Say
from plr_edge.errors import ConfigError

_REPEATED = 3  # runs of `adapt`


def measure(output: Path, say: Say, *, quick: bool = False) -> Row:
    """Run the commands as a user does, and collect what they report.

    Args:
        output: folder in which the demo leaves its bundle and report.
        say: called with progress.
        quick: the quick form of the demo, and one run of `adapt`.

    Returns:
        JSON values.

    Raises:
        ConfigError: a command failed.
    """
    say("plr-edge demo")
    demo = output / "demo"
    _plr_edge("demo", "-o", str(demo), *(["--quick"] if quick else []))
    report = json.loads((demo / "report.json").read_text())
    bundle = report["profile"]["bundles"][0]
    first = {row["part"]: row["p50_ms"] for row in reversed(bundle["engines"])}
    ratios = []
    for i in range(1 if quick else _REPEATED):
        say(f"plr-edge adapt, run {i + 1}")
        with tempfile.TemporaryDirectory() as folder:
            state = str(Path(folder) / "state")
            text = _plr_edge("adapt", str(demo / "bundle"), "demo", "--state", state, "--json")
        facts = json.loads(text)
        ratios.append(facts["seconds"] / facts["frozen_s"])
    return {
        "classes": len(report["learned"]["classes"]),
        "accuracy": report["accuracy"],
        "peak_rss_bytes": report["predict"]["peak_rss_bytes"],
        "frame_ms": {part: first[part] for part in ("frozen", "adaptive")},
        "step_ms": {row["level"]: row["p50_ms"] for row in bundle["steps"]},
        "adapt_over_frozen": ratios,
        "help_cpu_s": _cpu_s("--help"),
    }


def markdown(facts: Row) -> str:
    """Return a table of the figures with their commands."""
    frame = " + ".join(f"{ms:.1f}" for ms in facts["frame_ms"].values())
    steps = facts["step_ms"]
    levels = ", ".join(f"`{level}`" for level in steps)
    lines = [
        {"": f"demo: {facts['classes']} objects, held-out frames right",
         "figure": f"{facts['accuracy']:.1%}", "command": "`plr-edge demo`"},
        {"": "`predict`: peak resident memory, without torch",
         "figure": f"{facts['peak_rss_bytes'] / 1e6:.0f} MB", "command": "`plr-edge demo`"},
        {"": "one frame: frozen part + adaptive part", "figure": f"{frame} ms",
         "command": "`plr-edge profile bundle`"},
        {"": f"training step at {levels}",
         "figure": ", ".join(f"{ms:.3g}" for ms in steps.values()) + " ms",
         "command": "`plr-edge profile bundle`"},
        {"": "`adapt`: wall time over the frozen part's own time, median",
         "figure": f"{statistics.median(facts['adapt_over_frozen']):.2f}",
         "command": "`plr-edge adapt bundle demo --json`"},
        {"": "`plr-edge --help`: processor time", "figure": f"{facts['help_cpu_s']:.2f} s",
         "command": "`plr-edge --help`"},
    ]  # fmt: skip
    return table(lines)


def _plr_edge(*arguments: str) -> str:
    command = [sys.executable, "-m", "plr_edge", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise ConfigError(f"`plr-edge {' '.join(arguments)}` failed: {last[:200]}")
    return done.stdout


def _cpu_s(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _plr_edge(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
