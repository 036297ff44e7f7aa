"""`plr-edge plan`: what to export and run on a board within its budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import (
    allow_code_option,
    budget_options,
    bundle_argument,
    engine_options,
    threads_option,
    trust_option,
)

_RATE = 30.0  # frames/s where neither --rate nor --deadline says
_OF_BOARD = ("board", "power", "duty", "deadline", "max_temp", "memory")


@click.command("plan")
@bundle_argument
@budget_options
@click.option("--rate", type=click.FloatRange(0.1, 1000),
              help="Frames/s to answer.  [default: one in each deadline, else 30]")  # fmt: skip
@click.option("--profile", type=click.Path(path_type=Path),
              help="What `plr-edge profile --json` wrote, on the board that is planned for.  "
              "[default: measured here]")  # fmt: skip
@click.option("--stream", help="Frames to try the best candidates on: every fourth is held out.")
@click.option("--limit-per-class", type=click.IntRange(1), help="Of the stream.")
@click.option("--finalists", default=3, show_default=True, type=click.IntRange(1),
              help="Best candidates to export and measure.")  # fmt: skip
@click.option("--precision", "precisions", multiple=True,
              type=click.Choice(["fp32", "fp16", "int8"]),
              help="To choose from.  [default: fp32 and int8; on a GPU fp16 too]")  # fmt: skip
@click.option("--weights", type=click.Path(path_type=Path),
              help="Of the backbone, where they are not embedded.")  # fmt: skip
@click.option("--all", "show_all", is_flag=True, help="Print every candidate.")
@allow_code_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@threads_option
@engine_options
@trust_option
def command(bundle: Path, **options: Any) -> None:
    """Recommend cut, precision, input size, schedule and more for the backbone of BUNDLE.

    Budgets are those of `plr-edge run`. Candidates that break one are shown with the reason.
    """
    import json
    import tempfile

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.cli import plan_text
    from plr_edge.config import EngineConfig, LearningConfig
    from plr_edge.planning.planner import Planner
    from plr_edge.planning.trials import Family, Trial
    from plr_edge.profiling.profile import read_profile
    from plr_edge.robot.options import RobotOptions, with_board

    opened = open_bundle(bundle, options["trust"])
    facts = read_profile(options["profile"]) if options["profile"] else None
    filled = with_board(RobotOptions(**{name: options[name] for name in _OF_BOARD}))
    budgets = {name: getattr(filled, name) for name in _OF_BOARD}
    options, notes = keepable(options, options | budgets, facts)
    limits = make_limits(options, facts)
    engines = EngineConfig(
        n_threads=options["threads"],
        engine=options["engine"],
        providers=options["providers"],
        allow_code=options["allow_code"],
    )
    family = Family(opened, options["weights"], allow_code=options["allow_code"])
    trial = None
    if options["stream"]:
        trial = Trial.open(options["stream"], options["limit_per_class"])
    with tempfile.TemporaryDirectory() as folder:
        planner = Planner(family, limits, LearningConfig(), Path(folder), engines=engines,
                          trial=trial, finalists=options["finalists"], say=_say)  # fmt: skip
        costs = facts or planner.measure(options["precisions"] or _precisions(options))
        plan = planner.plan(costs, measured_here=facts is None)
    if options["as_json"]:
        click.echo(json.dumps(plan_text.to_dict(plan, family, limits, options, notes)))
    else:
        plan_text.show(plan, family, limits, options, notes)
    if plan.best is None:
        raise click.exceptions.Exit(1)


def keepable(
    given: dict[str, Any], filled: dict[str, Any], facts: dict[str, Any] | None
) -> tuple[dict[str, Any], list[str]]:
    """Leave out budgets of a board that nothing can be held against, and say so.

    Args:
        given: options as they were given.
        filled: the same, with the budgets of `--board`.
        facts: a profile; None where this machine will be measured.

    Raises:
        ConfigError: a budget that was given cannot be held against anything.
    """
    from plr_edge.errors import ConfigError
    from plr_edge.meters import find_power_meters, read_temperatures_c

    if facts is None:
        meters, reasons = find_power_meters()
        has_joules, where = any(meter.has_total for meter in meters), "this machine has no meter"
        has_heat = bool(read_temperatures_c())
    else:
        has_joules, where = bool(facts.get("idle")), "the profile has none"
        reasons, has_heat = facts.get("energy_absent", []), "temperatures_c" in facts
    notes, kept = [], dict(filled)
    for name, known, needs in (
        ("power", has_joules, f"joules, and {where} ({'; '.join(reasons)})"),
        ("max_temp", has_heat, "a temperature sensor, and there is none"),
    ):
        if filled[name] is None or known:
            continue
        if given[name] is not None:
            raise ConfigError(f"a budget of {given[name][:40]} needs {needs}; leave it out, or "
                              "give --profile of a board that has it")  # fmt: skip
        notes.append(f"{filled[name]} of the board is left out: it needs {needs}")
        kept[name] = None
    return kept, notes + _elsewhere(filled, facts)


def make_limits(options: dict[str, Any], facts: dict[str, Any] | None) -> Any:
    """Turn options into `Limits`."""
    from plr_edge.config import parse_bytes
    from plr_edge.meters import describe_machine
    from plr_edge.planning.candidates import Limits
    from plr_edge.robot.governor import Budget
    from plr_edge.robot.options import number_of

    duty, deadline_ms = number_of(options["duty"], "%"), number_of(options["deadline"], "ms")
    budget = Budget(
        power_w=number_of(options["power"], "W"),
        duty_share=None if duty is None else duty / 100,
        deadline_ms=deadline_ms,
        max_temp_c=number_of(options["max_temp"], "C"),
    )
    n_cores = (facts["machine"] if facts else describe_machine()).get("n_cores")
    return Limits(
        budget=budget,
        memory_bytes=parse_bytes(options["memory"]) if options["memory"] else None,
        frames_per_s=options["rate"] or (1e3 / deadline_ms if deadline_ms else _RATE),
        n_cores=None if n_cores is None else int(n_cores),
    )


def _elsewhere(options: dict[str, Any], facts: dict[str, Any] | None) -> list[str]:
    """Say so where costs are not those of the board that is planned for."""
    from plr_edge.boards import detect_board, load_board
    from plr_edge.meters import describe_machine

    if options["board"] in (None, "auto"):
        return []
    board = load_board(options["board"])
    machine = facts["machine"] if facts else describe_machine()
    model = str(machine.get("board_model", ""))
    here = detect_board() if facts is None else None
    if (here and here.name == board.name) or any(part in model for part in board.models):
        return []
    where = model or machine.get("cpu_model", "another machine")
    return [f"costs were measured on {where}, not on {board.title}: run `plr-edge profile` there, "
            "and give what it wrote as --profile"]  # fmt: skip


def _precisions(options: dict[str, Any]) -> tuple[str, ...]:
    """Return what is worth measuring: half precision only where a GPU computes in it."""
    on_gpu = options["engine"] == "tensorrt" or {"cuda", "tensorrt"} & set(options["providers"])
    return ("fp32", "fp16", "int8") if on_gpu else ("fp32", "int8")


def _say(text: str) -> None:
    click.echo(f"measuring {text}", err=True)
