"""`plr-edge profile`: what every part of a bundle costs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import bundle_argument, threads_option


@click.command("profile")
@bundle_argument
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write the profile; --schedule measured reads it.",
)
@click.option(
    "--runs",
    default=50,
    show_default=True,
    type=click.IntRange(3),
    help="Timed calls of each engine.",
)
@threads_option
def command(bundle: Path, json_file: Path | None, runs: int, threads: int) -> None:
    """Measure milliseconds, bytes and joules of every part of BUNDLE here."""
    import json

    from plr_edge.bundle import open_bundle
    from plr_edge.config import AdaptConfig
    from plr_edge.files import replace_file
    from plr_edge.profiling import profile_bundle

    facts = profile_bundle(open_bundle(bundle), AdaptConfig(n_threads=threads), runs=runs)
    if json_file:
        replace_file(json_file, json.dumps(facts, indent=1).encode())
    print_profile(facts)


def print_profile(facts: dict[str, Any]) -> None:
    """Print a profile as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    engines = Table(title=f"{facts['bundle']}: engines, {facts['n_threads']} thread")
    for title in ("part", "batch", "p50 ms", "p90 ms", "p99 ms", "MMACs", "mJ"):
        engines.add_column(title, justify="left" if title == "part" else "right")
    for row in facts["engines"]:
        engines.add_row(row["part"], str(row["batch"]), *_timing(row), _mega(row["macs"]), _mj(row))
    console.print(engines)
    steps = Table(title=f"one training step of {facts['batch']} samples, entered at")
    for title in ("level", "p50 ms", "p90 ms", "p99 ms", "MMACs", "autograd MB", "mJ"):
        steps.add_column(title, justify="left" if title == "level" else "right")
    for row in facts["steps"]:
        saved = f"{row['saved_bytes'] / 1e6:.1f}"
        steps.add_row(row["level"], *_timing(row), _mega(row["macs"]), saved, _mj(row))
    console.print(steps)
    memory = Table(title="memory of a process")
    for title in ("imports", "RSS MB", "PSS MB", "import CPU s"):
        memory.add_column(title, justify="left" if title == "imports" else "right")
    for name, row in facts["memory"].items():
        cpu = f"{row['import_cpu_s']:.2f}" if "import_cpu_s" in row else ""
        memory.add_row(name, _megabytes(row, "rss_bytes"), _megabytes(row, "pss_bytes"), cpu)
    console.print(memory)
    sources = ", ".join(facts["energy_sources"])
    energy = f"energy from: {sources}" if sources else "energy: no counter can be read here"
    for line in (energy, *(f"  {reason}" for reason in facts["energy_absent"])):
        console.print(line, markup=False, highlight=False)  # a reason may hold `[gpu]`


def _timing(row: dict[str, Any]) -> list[str]:
    return [f"{row[key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms")]


def _mega(n: int) -> str:
    return f"{n / 1e6:.1f}"


def _megabytes(row: dict[str, Any], key: str) -> str:
    return f"{row[key] / 1e6:.0f}" if key in row else ""


def _mj(row: dict[str, Any]) -> str:
    return ", ".join(f"{value:.1f}" for value in row.get("energy_mj", {}).values())
