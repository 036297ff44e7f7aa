"""`python -m benchmarks compare`, `streams` and `generated`: methods over scenarios."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click

from benchmarks.cli.options import (
    again_option,
    bundle_option,
    data_option,
    jobs_option,
    make_settings,
    memory_option,
    output_option,
    weights_option,
)
from plr_edge.cli.values import Number

_GENERATED = ("generated", "wide", "switches")


def _frames(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    if not all(value == "all" or (value.isdecimal() and int(value)) for value in values):
        raise click.BadParameter("give a number, or all")
    return tuple(None if value == "all" else int(value) for value in values)


_OPTIONS = (
    data_option,
    weights_option,
    click.option("--quick", is_flag=True, help="Run few streams, one seed and no slow method."),
    click.option("--dataset", "datasets", multiple=True,
                 help="Data set, or a folder of class/image; may be repeated."),
    click.option("--order", "orders", multiple=True,
                 help="Order: classes, iid, blocks, given or 'long tail'; may be repeated."),
    click.option("--frames", multiple=True, callback=_frames,
                 help="Frames taught of each class, or all; may be repeated."),
    click.option("--experiences", type=click.IntRange(0),
                 help="Experiences of new classes; 0 for one class at a time.  [default: 10]"),
    click.option("--noise", "noises", multiple=True, type=Number(0, 1),
                 help="Share of wrong labels; may be repeated."),
    click.option("--method", "methods", multiple=True,
                 help="Method to run; may be repeated.  [default: all]"),
    click.option("--seeds", type=click.IntRange(1),
                 help="Seeds of every stream.  [default: three of the main ones, one of others]"),
    click.option("--profile", type=click.Choice(["quick", "wide", "paper"]),
                 help="Effort of the methods that rehearse generated latents.  "
                 "[default: wide for `wide`, else quick]"),
    bundle_option,
    memory_option,
    click.option("--bits", type=click.Choice(["4", "8"]), help="Bits per value of a latent."),
    jobs_option,
    again_option,
    output_option,
)  # fmt: skip


def _switch(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> Any:
    from benchmarks.methods.generated_methods import read_switch

    return dict(read_switch(value) for value in values)


_SET = click.option(
    "--set", "switches", multiple=True, callback=_switch, metavar="NAME=VALUE",
    help="Change a setting of rehearsal from a generator, e.g. --set new_share=0.5; may be "
    "repeated. The settings are those of GenerativeConfig, and iterations.",
)  # fmt: skip
_TUNE = click.option("--tune", is_flag=True, help="First choose every method's setting on seed 99.")


def make_command(name: str) -> click.Command:
    """Return the command of a suite."""
    from benchmarks.suites import SUITES

    run: Any = functools.partial(_run, name)
    suite = SUITES[name]
    of_suite = [*([_TUNE] if suite.tuned else []), *([_SET] if name in _GENERATED else [])]
    for option in reversed((*_OPTIONS, *of_suite)):
        run = option(run)
    text = (
        f"{suite.help}\n\nWrites NAME.json, .csv, .md and .html into the output folder. "
        "A run that was stopped continues where it was. Without --order, --frames, "
        "--experiences and --noise the streams are those of benchmarks/results.md; with one of "
        "these or a folder, all combinations are run."
    )
    return click.command(name, help=text)(run)


def _run(
    name: str,
    *,
    data: Path,
    output: Path,
    jobs: int,
    again: bool,
    quick: bool,
    methods: tuple[str, ...],
    seeds: int | None,
    profile: str | None,
    switches: dict[str, Any] | None = None,
    tune: bool = False,
    **options: Any,
) -> None:
    from dataclasses import replace

    from benchmarks import grid_report, runner, suites, tuning
    from benchmarks.methods.registry import METHODS, check_methods
    from plr_edge.errors import ConfigError

    check_methods(methods)
    suite = suites.SUITES[name]
    chosen = {key: options.pop(key)
              for key in ("datasets", "orders", "frames", "experiences", "noises")}  # fmt: skip
    scenarios = suites.choose(suite, quick=quick, **chosen)
    cells = suites.cells(suite, scenarios, methods, quick=quick, seeds=seeds)
    if profile is not None:
        cells = [replace(c, scenario=replace(c.scenario, profile=profile)) for c in cells]
    settings = make_settings(data, output, **options)
    if tune:
        tuning.tune(settings, jobs=jobs, say=click.echo)
    tuned = tuning.read_tuned(output) if suite.tuned else {}
    if switches:
        tuned = {one.method: switches for one in cells if METHODS[one.method].generated}
        if not tuned:
            raise ConfigError("--set changes rehearsal from a generator; no such method is run")
    rows = runner.run_grid(
        cells, name, settings, tuned=tuned, jobs=jobs, say=click.echo, again=again
    )
    click.echo(grid_report.write_grid(output, name, rows))
