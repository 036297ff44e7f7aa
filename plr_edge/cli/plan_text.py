"""A recommendation as tables, as JSON and as commands to run. Prints, and decides nothing."""

from __future__ import annotations

import shlex
from typing import Any

import click

from plr_edge.cli.tables import print_table
from plr_edge.config import LearningConfig
from plr_edge.planning.configurations import (
    Assessment,
    Constraints,
    consolidation_s,
)
from plr_edge.planning.planner import Recommendation
from plr_edge.planning.search_space import SearchSpace
from plr_edge.robot.governor import CONSOLIDATE_STEPS

_SHOWN = 12
_WHY_NOT = {
    (8, False): "no better in the same bytes",
    (4, True): "pooling loses what small maps need",
    (8, True): "pooling loses what small maps need",
}


def show(result: Recommendation, space: SearchSpace, constraints: Constraints,
         options: dict[str, Any], notes: list[str]) -> None:  # fmt: skip
    """Print a recommendation."""
    ranked = result.assessments
    shown = ranked if options["show_all"] else _shown(ranked)
    _print(f"{space.name} within {constraints_text(constraints)}", [*map(_row, shown)])
    if len(shown) < len(ranked):
        click.echo(
            f"{len(ranked) - len(shown)} more exceed a budget or rank lower; --all shows them"
        )
    click.echo(f"ranked by: {result.criterion}")
    failed = (f"{name}: {reason}" for name, reason in result.failed.items())
    for text in [*_cost_lines(result), *notes, *failed]:
        click.echo(text)
    if result.best is None:
        click.echo("no configuration keeps every budget; the first of the table comes nearest")
        return
    click.echo(
        f"\nrecommended: {result.best.configuration.name}, schedule {result.best.schedule.name}"
    )
    for text in [*_gains(result.best, constraints), *_losses(result)]:
        click.echo(text)
    _print("schedules: training steps that the budgets leave", _schedule_rows(result))
    _print("ways to store latents", _codec_rows(result))
    for text in commands(result, space, options):
        click.echo(text)


def to_dict(result: Recommendation, space: SearchSpace, constraints: Constraints,
            options: dict[str, Any], notes: list[str]) -> dict[str, Any]:  # fmt: skip
    """Return a recommendation as values that fit JSON."""
    rows = [
        {
            "input_size": one.configuration.input_size,
            "cut": one.configuration.cut,
            "precision": one.configuration.precision,
            "latent_shape": list(one.configuration.levels[0].shape),
            "measured": one.costs.measured,
            "frame_ms": one.costs.frame_ms,
            "frame_p99_ms": one.costs.frame_p99_ms,
            "frame_mj": one.costs.frame_mj,
            "trainer_bytes": one.costs.trainer_bytes,
            "latents_per_mb": one.latents_per_mb,
            "latent_memory_bytes": one.latent_memory_bytes,
            "schedule": one.schedule.name,
            "shares": list(one.schedule.shares),
            "step_ms": one.step_ms,
            "step_mj": one.step_mj,
            "steps_per_s": one.steps_per_s,
            "watts_without_training": one.watts,
            "accuracy": one.accuracy,
            "breaks": one.violation or None,
        }
        for one in result.assessments
    ]
    return {
        "backbone": space.name,
        "limits": constraints_text(constraints),
        "ranked_by": result.criterion,
        "recommended": rows[0] if result.best else None,
        "candidates": rows,
        "schedules": result.schedules,
        "codecs": result.codecs,
        "commands": commands(result, space, options) if result.best else [],
        "notes": [*_cost_lines(result), *notes],
        "failed": result.failed,
        "profile": result.profile,
    }


def commands(result: Recommendation, space: SearchSpace, options: dict[str, Any]) -> list[str]:
    """Return the commands to type: the export if it takes another bundle, then the run."""
    assert result.best is not None
    best, lines = result.best.configuration, []
    path = str(space.bundle.path)
    if best.key != space.own.key:
        path = f"{path}-{best.input_size}-{best.cut}-{best.precision}"
        export = ["plr-edge", "export", "--backbone", space.name]
        if space.weights:
            export += ["--weights", str(space.weights)]
        export += ["--input-size", str(best.input_size), "--cut", best.cut]
        export += ["--precision", best.precision, *_int8_profile(result, best.precision)]
        export += ["--static-feature"] if space.static_feature else []
        lines.append(shlex.join([*export, "-o", path]) + " &&")
    run = ["plr-edge", "run", path, "SOURCE", "--state", "learned"]
    for name in ("power", "memory_limit", "deadline", "duty", "max_temp"):
        if options[name] is not None:
            run += [f"--{name.replace('_', '-')}", options[name]]
    if result.best.schedule.name == "measured":  # costs are known here, and not to `run`
        run += ["--schedule", ",".join(f"{share:.4f}" for share in result.best.schedule.shares)]
    if result.best.latent_memory_bytes != LearningConfig().memory_bytes:
        run += ["--latent-memory", f"{result.best.latent_memory_bytes / 1e6:g}MB"]
    codec = result.codecs[0]
    run += ["--bits", str(codec["bits"])] if codec["bits"] != 4 else []
    run += ["--pool", str(codec["pool"])] if codec["pool"] else []
    profile = result.profile  # run with the engine that was profiled
    run += ["--threads", str(profile["n_threads"])] if profile.get("n_threads", 1) != 1 else []
    run += ["--engine", profile["engine"]] if profile.get("engine", "onnx") != "onnx" else []
    run += ["--providers", ",".join(profile["providers"])] if profile.get("providers") else []
    return [*lines, shlex.join(run)]


def _int8_profile(result: Recommendation, precision: str) -> list[str]:
    """Ask for the int8 types that were profiled: the export may run on another machine."""
    names = [str(e["precision"]).partition(" ")[2] for e in result.profile["bundles"]
             if str(e["precision"]).startswith("int8 ")]  # fmt: skip
    return ["--int8-profile", names[0]] if precision == "int8" and names else []


def constraints_text(constraints: Constraints) -> str:
    """Return the constraints on one line."""
    budget, limit = constraints.budget, constraints.memory_limit_bytes
    parts = [
        None if budget.power_w is None else f"{budget.power_w:g} W",
        None if limit is None else f"{limit / 1e6:g} MB",
        None if budget.deadline_ms is None else f"{budget.deadline_ms:g} ms",
        None if budget.duty_share is None else f"duty {budget.duty_share:.0%}",
        None if budget.max_temp_c is None else f"{budget.max_temp_c:g} C",
        f"{constraints.frames_per_s:.3g} frames/s",
    ]
    return ", ".join(part for part in parts if part)


def _shown(ranked: list[Assessment]) -> list[Assessment]:
    """Return the best, and the best of those that exceed a budget."""
    kept = [one for one in ranked if not one.violation][: _SHOWN // 2]
    return kept + [one for one in ranked if one.violation][: _SHOWN - len(kept)]


def _row(one: Assessment) -> dict[str, str]:
    costs, accuracy = one.costs, one.accuracy
    about, needs = "" if costs.measured else "~", costs.trainer_bytes
    return {
        "configuration": "{} {} {}".format(*one.configuration.key),
        "% right": "" if accuracy is None else f"{100 * accuracy:.1f}",
        "ms": f"{about}{costs.frame_ms:.1f}",
        "mJ": "absent" if costs.frame_mj is None else f"{about}{costs.frame_mj:.0f}",
        "MB": f"{about}{needs / 1e6:.0f}" if needs is not None else "absent",
        "latents/MB": f"{one.latents_per_mb:.0f}",
        "held": f"{one.latents_per_mb * one.latent_memory_bytes / 1e6:.0f}",
        "steps/s": f"{about}{one.steps_per_s:.1f}",
        "breaks": one.violation,
    }


def _cost_lines(result: Recommendation) -> list[str]:
    machine = result.profile["machine"]
    where = machine.get("board_model") or machine.get("cpu_model", "an unknown machine")
    bundles = result.profile["bundles"]
    names = ", ".join(f"{e['input_size']} px {e['cut']} {e['precision']}" for e in bundles)
    return [
        f"costs: measured on {where} for {names}; `~` is scaled from these by multiply-adds",
        "ms and mJ: time and energy above idle of a frame; MB: data of the trainer, as `plr-edge "
        "run --memory-limit` limits it",
    ]


def _gains(best: Assessment, constraints: Constraints) -> list[str]:
    """Describe what the recommended configuration gets."""
    costs = best.costs
    lines = [
        f"  {best.steps_per_s:.1f} training steps/s of {best.step_ms:.1f} ms; the "
        f"{CONSOLIDATE_STEPS} after a lesson take {consolidation_s(best):.0f} s",
        f"  {best.latents_per_mb * best.latent_memory_bytes / 1e6:.0f} latents in "
        f"{best.latent_memory_bytes / 1e6:g} MB to rehearse from",
        f"  a frame takes {costs.frame_ms:.1f} ms, and 99 of 100 take at most "
        f"{costs.frame_p99_ms:.1f} ms",
    ]
    if costs.answer_bytes is not None:
        lines.append(f"  perception needs {costs.answer_bytes / 1e6:.0f} MB more")
    if best.watts is not None:
        lines.append(f"  {best.watts:.1f} W before training")
    if not costs.measured:
        lines.append("  these are estimates; export it on the board, and profile it")
    max_temp_c = constraints.budget.max_temp_c
    if max_temp_c is not None:
        lines.append(
            f"  {max_temp_c:g} C: temperature is not predicted; the governor trains less near it"
        )
    return lines


def _losses(result: Recommendation) -> list[str]:
    """List what would be more accurate, or at least larger, by the budget that rules it out."""
    best = result.best
    assert best is not None

    def gain(one: Assessment) -> float:
        if one.accuracy is None or best.accuracy is None:
            return one.configuration.input_size - best.configuration.input_size
        return 100 * (one.accuracy - best.accuracy)

    most: dict[str, Assessment] = {}  # by the budget that rules it out
    for one in result.assessments:
        budget = one.violation.partition(":")[0]
        if budget and gain(one) > (gain(most[budget]) if budget in most else 0):
            most[budget] = one
    unit = "px" if best.accuracy is None else "points"
    return [
        f"  gives up {gain(one):.3g} {unit} to {one.configuration.name}, which breaks "
        f"{one.violation}"
        for one in most.values()
    ]


def _schedule_rows(result: Recommendation) -> list[dict[str, str]]:
    return [
        {
            "schedule": row["schedule"],
            "shares": "/".join(f"{s:.2f}".removeprefix("0") for s in row["shares"]),
            "step ms": f"{row['step_ms']:.1f}",
            "step mJ": "absent" if row["step_mj"] is None else f"{row['step_mj']:.0f}",
            "steps/s": f"{row['steps_per_s']:.1f}",
        }
        for row in result.schedules
    ]


def _codec_rows(result: Recommendation) -> list[dict[str, str]]:
    rows = []
    for i, row in enumerate(result.codecs):
        why = "recommended" if i == 0 else ""
        if i and row["accuracy"] is None:
            why = _WHY_NOT[row["bits"], row["pool"] is not None]
        rows.append({
            "bits": str(row["bits"]),
            "pooled to": str(row["pool"] or "not pooled"),
            "bytes": str(row["bytes"]),
            "latents/MB": f"{row['latents_per_mb']:.0f}",
            "held": str(row["held"]),
            "% right": "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}",
            "": why,
        })  # fmt: skip
    return rows


def _print(title: str, rows: list[dict[str, str]]) -> None:
    """Print rows as a table, without the columns that are empty throughout."""
    columns = [c for c in rows[0] if any(row[c] for row in rows)]
    texts = [{column: row[column] for column in columns} for row in rows]
    print_table(texts, title=title, left=("configuration", "breaks", "schedule", "shares", ""))
