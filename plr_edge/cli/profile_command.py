"""`plr-edge profile`: what each part of a bundle costs on this machine."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.left_out import print_left_out
from plr_edge.cli.options import (
    allow_code_option,
    engine_options,
    needs_extras,
    threads_option,
    trust_option,
)
from plr_edge.cli.values import Whole, check_outputs

_FRAMES, _PER_CLASS = 64, 8


@click.command("profile")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path),
    help="Write the profile as JSON, for `plr-edge plan` and --schedule measured.",
)
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots (.html).")
@click.option(
    "--trace",
    type=click.Path(path_type=Path),
    help="Write a trace of some frames, for ui.perfetto.dev.",
)
@click.option(
    "--stream", show_default="the embedded images", help="Stream of frames to measure on."
)
@click.option(
    "--runs",
    default=50,
    show_default=True,
    type=Whole(3),
    help="Number of timed calls per engine.",
)
@allow_code_option
@threads_option
@engine_options
@trust_option
@needs_extras("train")
def command(bundles: tuple[Path, ...], **options: Any) -> None:
    """Measure time, memory and energy of each part.

    Several BUNDLES, for example one per precision, are measured in turns.
    """
    import json

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import EngineConfig
    from plr_edge.errors import StreamError
    from plr_edge.files import replace_file
    from plr_edge.profiling.page import write_page
    from plr_edge.profiling.profile import profile_bundles
    from plr_edge.profiling.trace import trace_run, write_trace
    from plr_edge.report.page import figure_class
    from plr_edge.stream import open_stream

    check_outputs(json=options["json_file"], trace=options["trace"], html=options["html"])
    check_outputs((".html", ".htm"), html=options["html"])
    if options["html"] is not None:
        figure_class()  # fail now if matplotlib is missing, not after minutes
    opened = [open_bundle(path, options["trust"]) for path in bundles]
    engines = EngineConfig(
        n_threads=options["threads"],
        engine=options["engine"],
        providers=options["providers"],
    )
    spec = "demo" if options["stream"] is None else options["stream"]
    stream = open_stream(spec, limit_per_class=_PER_CLASS)
    frames = list(islice(stream, _FRAMES))
    print_left_out(stream)
    if not frames:
        raise StreamError(f"no frame of {spec} can be read; give another --stream")
    profile = profile_bundles(
        opened, engines=engines, runs=options["runs"], frames=frames, say=_say
    )
    if options["json_file"] is not None:
        replace_file(options["json_file"], json.dumps(profile, indent=1).encode())
    runs = []
    if options["html"] is not None or options["trace"] is not None:
        _say("a run to trace")
        runs = [trace_run(bundle, stream, engines=engines) for bundle in opened]
    if options["trace"] is not None:
        write_trace(options["trace"], runs, profile["machine"])
    if options["html"] is not None:
        write_page(options["html"], profile, runs)
    print_profile(profile)


def print_profile(profile: dict[str, Any]) -> None:
    """Print a profile as tables."""
    from plr_edge.profiling.page import frame_rows, memory_rows, step_rows

    entries = profile["bundles"]
    for entry in entries:
        click.echo(
            f"{entry['label']}: {entry['bundle']} at {entry['input_size']} px, "
            f"{entry['precision']}{_parity(entry)}"
        )
    threads = f"{profile['n_threads']} thread{'s' if profile['n_threads'] > 1 else ''}"
    _print_table(f"one call, {threads}, {profile['n_classes']} classes", frame_rows(entries))
    _print_table(f"one training step of {profile['batch']} samples, entered at", step_rows(entries))
    _print_table("memory of a process", memory_rows(profile))
    for line in _machine_lines(profile):
        click.echo(line)


def _print_table(title: str, rows: list[dict[str, Any]]) -> None:
    from plr_edge.cli.tables import print_table

    texts = [{column: _cell(value) for column, value in row.items()} for row in rows]
    left = [column for column, value in rows[0].items() if isinstance(value, str)]
    click.echo()
    print_table(texts, title=title, left=left)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if isinstance(value, float) else str(value)


def _parity(entry: dict[str, Any]) -> str:
    if entry["latent_cosine"] is None:
        return ""
    return (
        f"; compared with PyTorch: smallest cosine {entry['latent_cosine']:.4f}, top-1 agrees on "
        f"{entry['top1_agreement']:.1%}"
    )


def _machine_lines(profile: dict[str, Any]) -> list[str]:
    """Describe the machine, its power mode, its temperatures and its idle power."""
    machine = profile["machine"]
    shown = ("board_model", "cpu_model", "power_mode", "clocks", "cpu_governor", "throttled_by")
    known = [f"{key.replace('_', ' ')} {machine[key]}" for key in shown if key in machine]
    lines = [f"machine: {', '.join(known)}"]
    if profile["changed"]:
        changed = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in profile["changed"].items())
        lines.append(f"at the end: {changed}")
    heat = profile.get("temperatures_c")
    if heat:
        ends = [max(heat[when].values(), default=None) for when in ("before", "after")]
        lines.append("hottest sensor: " + " to ".join(f"{c:.0f} C" for c in ends if c is not None))
    for source, idle in profile["idle"].items():
        if "w" in idle:
            lines.append(f"idle: {idle['w']:.2f} W by {source}, {idle['samples']} samples")
    if profile["energy_absent"]:
        lines.append("energy: this machine has no counter that can be read")
    return [*lines, *(f"  {reason}" for reason in profile["energy_absent"])]


def _say(text: str) -> None:
    click.echo(f"measuring {text}", err=True)
