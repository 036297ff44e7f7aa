"""`plr-edge plan`: what to export and run on a board within its budgets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plr_edge.cli.options import (
    RenamingCommand,
    budget_options,
    bundle_argument,
    engine_options,
    json_option,
    latent_memory_option,
    needs_extras,
    threads_option,
    trust_option,
)
from plr_edge.cli.values import Number, Whole

if TYPE_CHECKING:
    from plr_edge.robot.governor import Budget

_RATE = 30.0  # frames/s if neither --rate nor --deadline is given
_BUDGETS = ("board", "power", "duty", "deadline", "max_temp", "memory_limit")


@click.command("plan", cls=RenamingCommand, renamed={"--memory": "--memory-limit"})
@bundle_argument
@budget_options
@click.option(
    "--rate",
    type=Number(0.1, 1000),
    show_default="one per deadline, else 30",
    help="Frames per second to answer.",
)
@latent_memory_option
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    show_default="measured here",
    help="Profile of the target board, written by `plr-edge profile --json`.",
)
@click.option(
    "--stream",
    help="Labelled stream to measure the accuracy of the best configurations "
    "on. Every fourth frame is held out.",
)
@click.option(
    "--limit-per-class",
    type=Whole(),
    help="Use at most this many images of each class of --stream.",
)
@click.option(
    "--finalists",
    default=3,
    show_default=True,
    type=Whole(),
    help="Number of best configurations to export and measure.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    show_default="fp32 and int8; on a GPU also fp16",
    help="Precision to choose from.",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights of the backbone. Required unless they are embedded.",
)
@click.option("--all", "show_all", is_flag=True, help="Print every configuration.")
@click.option(
    "--allow-code",
    is_flag=True,
    help="Allow importing the code that an unsigned bundle names as its network.",
)
@json_option
@threads_option
@engine_options
@trust_option
@needs_extras("export")
def command(bundle: Path, **options: Any) -> None:
    """Recommend what to export and run within budgets.

    Compares cuts, precisions, input sizes, schedules and ways to store latents for the backbone of
    BUNDLE. Budgets are those of `plr-edge run`. A configuration that exceeds one is listed with
    the reason. The exit code is 1 if no configuration keeps every budget.
    """
    import json
    import tempfile

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli import plan_text
    from plr_edge.config import EngineConfig, learning_config
    from plr_edge.errors import ConfigError
    from plr_edge.planning.planner import Planner
    from plr_edge.planning.search_space import SearchSpace
    from plr_edge.planning.trials import Trial
    from plr_edge.profiling.profile import read_profile

    opened = open_bundle(bundle, options["trust"])
    profile = None if options["profile"] is None else read_profile(options["profile"])
    constraints, texts, notes = _constraints(options, profile)
    options |= texts
    config = learning_config(options["latent_memory"])
    engines = EngineConfig(
        n_threads=options["threads"],
        engine=options["engine"],
        providers=options["providers"],
    )
    space = SearchSpace(opened, options["weights"], allow_code=options["allow_code"])
    trial = None
    if options["stream"] is None and options["limit_per_class"] is not None:
        raise ConfigError("--limit-per-class is for --stream; add it, or leave both out")
    if options["stream"] is not None:
        trial = Trial.open(options["stream"], options["limit_per_class"])
    with tempfile.TemporaryDirectory() as folder:
        planner = Planner(
            space,
            constraints,
            config,
            Path(folder),
            engines=engines,
            trial=trial,
            finalists=options["finalists"],
            say=_say,
        )
        costs = profile
        if costs is None:
            costs = planner.measure(options["precisions"] or _precisions(options))
        result = planner.recommend(costs, measured_here=profile is None)
    if options["as_json"]:
        click.echo(json.dumps(plan_text.to_dict(result, space, constraints, options, notes)))
    else:
        plan_text.show(result, space, constraints, options, notes)
    if result.best is None:
        raise click.exceptions.Exit(1)


def _constraints(
    options: dict[str, Any], profile: dict[str, Any] | None
) -> tuple[Any, dict[str, str | None], list[str]]:
    """Return the `Constraints`, their budgets as options of `plr-edge run`, and notes."""
    from plr_edge.planning.configurations import Constraints
    from plr_edge.robot.options import (
        RobotOptions,
        budget_texts,
        find_board,
        read_budget,
        read_memory_limit,
    )

    asked = RobotOptions(**{name: options[name] for name in _BUDGETS})
    board, n_cores = find_board(options["board"]), _n_cores(profile)
    memory_limit = read_memory_limit(asked, board)
    budget, notes = applicable_budget(
        read_budget(asked, None, n_cores), read_budget(asked, board, n_cores), profile
    )
    constraints = Constraints(
        budget=budget,
        memory_limit_bytes=memory_limit,
        frames_per_s=_rate(options["rate"], budget.deadline_ms),
        n_cores=n_cores,
    )
    return constraints, budget_texts(budget, memory_limit), notes + _board_note(options, profile)


def applicable_budget(
    given: Budget, filled: Budget, profile: dict[str, Any] | None
) -> tuple[Budget, list[str]]:
    """Drop the budgets of a board that cannot be checked against anything.

    Args:
        given: budgets as given.
        filled: the same with those of `--board`.
        profile: a profile. None if this machine will be measured.

    Returns:
        budget: `filled` without those that were dropped.
        notes: a sentence for each of these.

    Raises:
        ConfigError: a budget that was given cannot be checked against anything.
    """
    from dataclasses import replace

    from plr_edge.errors import ConfigError
    from plr_edge.meters import find_power_meters, read_temperatures_c
    from plr_edge.robot.options import AMOUNTS, budget_texts

    if profile is None:
        meters, reasons = find_power_meters()
        has_joules, where = any(meter.has_total for meter in meters), "this machine has no meter"
        has_sensor = bool(read_temperatures_c())
    else:
        has_joules, where = bool(profile.get("idle")), "the profile has none"
        reasons, has_sensor = profile.get("energy_absent", []), "temperatures_c" in profile
    notes, kept, texts = [], filled, budget_texts(filled, None)
    for option, known, needs in (
        ("power", has_joules, f"joules, and {where} ({'; '.join(reasons)})"),
        ("max_temp", has_sensor, "a temperature sensor, and there is none"),
    ):
        name, text = AMOUNTS[option][0], texts[option]
        if text is None or known:
            continue
        if getattr(given, name) is not None:
            raise ConfigError(
                f"a budget of {text} needs {needs}; leave it out, or "
                "give --profile of a board that has it"
            )
        notes.append(f"{text} of the board is left out: it needs {needs}")
        kept = replace(kept, **{name: None})
    return kept, notes


def _n_cores(profile: dict[str, Any] | None) -> int | None:
    """Return the cores of the machine that is planned for. None if unknown."""
    from plr_edge.meters import describe_machine

    machine = describe_machine() if profile is None else profile["machine"]
    n_cores = machine.get("n_cores")
    return None if n_cores is None else int(n_cores)


def _rate(rate: float | None, deadline_ms: float | None) -> float:
    """Return the frames per second to answer: as given, else one per deadline, else the default."""
    if rate is not None:
        return rate
    return _RATE if deadline_ms is None else 1e3 / deadline_ms


def _board_note(options: dict[str, Any], profile: dict[str, Any] | None) -> list[str]:
    """Return a note if the costs were measured on another board than the one named."""
    from plr_edge.boards import detect_board, load_board
    from plr_edge.meters import describe_machine

    if options["board"] in (None, "auto"):
        return []
    board = load_board(options["board"])
    machine = describe_machine() if profile is None else profile["machine"]
    model = str(machine.get("board_model", ""))
    here = detect_board() if profile is None else None
    if (here and here.name == board.name) or any(part in model for part in board.models):
        return []
    where = model or machine.get("cpu_model", "another machine")
    return [f"costs were measured on {where}, not on {board.title}: run `plr-edge profile` there, "
            "and give the file as --profile"]  # fmt: skip


def _precisions(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the precisions worth measuring. Only a GPU computes in half precision."""
    on_gpu = options["engine"] == "tensorrt" or {"cuda", "tensorrt"} & set(options["providers"])
    return ("fp32", "fp16", "int8") if on_gpu else ("fp32", "int8")


def _say(text: str) -> None:
    click.echo(f"measuring {text}", err=True)
