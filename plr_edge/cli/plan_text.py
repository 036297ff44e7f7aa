"""A plan as tables, as JSON and as commands to run. Prints; decides nothing."""

from __future__ import annotations

import shlex
from typing import Any

import click

from plr_edge.config import LearningConfig
from plr_edge.planning.candidates import Judged, Limits, consolidation_s
from plr_edge.planning.planner import Plan
from plr_edge.planning.trials import Family
from plr_edge.robot.governor import CONSOLIDATE_STEPS

_SHOWN = 12
_WHY_NOT = {
    (8, False): "no better in the same bytes",
    (4, True): "pooling loses what small maps need",
    (8, True): "pooling loses what small maps need",
}


def show(plan: Plan, family: Family, limits: Limits, options: dict[str, Any],
         notes: list[str]) -> None:  # fmt: skip
    """Print a plan."""
    from rich.console import Console

    console = Console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    shown = plan.judged if options["show_all"] else _shown(plan.judged)
    _print(console, f"{family.name} within {limits_text(limits)}", [_row(j) for j in shown])
    if len(shown) < len(plan.judged):
        say(f"{len(plan.judged) - len(shown)} more break a budget or rank lower; --all shows them")
    say(f"ranked by: {plan.criterion}")
    for text in [*_cost_lines(plan), *notes, *(f"{k}: {v}" for k, v in plan.failed.items())]:
        say(text)
    if plan.best is None:
        say("no candidate keeps every budget; the first of the table comes nearest")
        return
    say(f"\nrecommended: {plan.best.candidate.name}, schedule {plan.best.schedule.name}")
    for text in [*_gets(plan.best, limits), *_gives_up(plan)]:
        say(text)
    _print(console, "schedules: training steps that the budgets leave", _schedule_rows(plan))
    _print(console, "latents in the latent memory", _codec_rows(plan))
    for text in commands(plan, family, options):
        click.echo(text)


def to_dict(plan: Plan, family: Family, limits: Limits, options: dict[str, Any],
            notes: list[str]) -> dict[str, Any]:  # fmt: skip
    """Return a plan as facts that fit JSON."""
    rows = [
        {
            "input_size": j.candidate.input_size,
            "cut": j.candidate.cut,
            "precision": j.candidate.precision,
            "latent_shape": list(j.candidate.levels[0].shape),
            "measured": j.costs.measured,
            "frame_ms": j.costs.frame_ms,
            "frame_p99_ms": j.costs.frame_p99_ms,
            "frame_mj": j.costs.frame_mj,
            "trainer_bytes": j.costs.trainer_bytes,
            "latents_per_mb": j.latents_per_mb,
            "latent_memory_bytes": j.memory_bytes,
            "schedule": j.schedule.name,
            "shares": list(j.schedule.shares),
            "step_ms": j.step_ms,
            "step_mj": j.step_mj,
            "steps_per_s": j.steps_per_s,
            "watts_without_training": j.watts,
            "accuracy": j.accuracy,
            "breaks": j.broken or None,
        }
        for j in plan.judged
    ]
    return {
        "backbone": family.name,
        "limits": limits_text(limits),
        "ranked_by": plan.criterion,
        "recommended": rows[0] if plan.best else None,
        "candidates": rows,
        "schedules": plan.schedules,
        "codecs": plan.codecs,
        "commands": commands(plan, family, options) if plan.best else [],
        "notes": [*_cost_lines(plan), *notes],
        "failed": plan.failed,
        "profile": plan.facts,
    }


def commands(plan: Plan, family: Family, options: dict[str, Any]) -> list[str]:
    """Return what to type: export, where it is another bundle, and run."""
    assert plan.best is not None
    best, lines = plan.best.candidate, []
    path = str(family.bundle.path)
    if best.key != family.own.key:
        path = f"{path}-{best.input_size}-{best.cut}-{best.precision}"
        export = ["plr-edge", "export", "--backbone", family.name]
        if family.weights:
            export += ["--weights", str(family.weights)]
        export += ["--input-size", str(best.input_size), "--cut", best.cut]
        export += ["--precision", best.precision, *_int8_profile(plan, best.precision)]
        export += ["--static-feature"] if family.static_feature else []
        lines.append(shlex.join([*export, "-o", path]) + " &&")
    run = ["plr-edge", "run", path, "SOURCE", "--state", "learned"]
    for name in ("power", "memory", "deadline", "duty", "max_temp"):
        if options[name] is not None:
            run += [f"--{name.replace('_', '-')}", options[name]]
    run += ["--allow-code"] if options["allow_code"] else []
    if plan.best.schedule.name == "measured":  # costs are known here, and not to `run`
        run += ["--schedule", ",".join(f"{share:.4f}" for share in plan.best.schedule.shares)]
    if plan.best.memory_bytes != LearningConfig().memory_bytes:
        run += ["--latents", f"{plan.best.memory_bytes / 1e6:g}MB"]
    codec = plan.codecs[0]
    run += ["--bits", str(codec["bits"])] if codec["bits"] != 4 else []
    run += ["--pool", str(codec["pool"])] if codec["pool"] else []
    facts = plan.facts  # as it was profiled
    run += ["--threads", str(facts["n_threads"])] if facts.get("n_threads", 1) != 1 else []
    run += ["--engine", facts["engine"]] if facts.get("engine", "onnx") != "onnx" else []
    run += ["--providers", ",".join(facts["providers"])] if facts.get("providers") else []
    return [*lines, shlex.join(run)]


def _int8_profile(plan: Plan, precision: str) -> list[str]:
    """Ask for the types that were profiled: another machine may be the one that exports."""
    names = [str(e["precision"]).partition(" ")[2] for e in plan.facts["bundles"]
             if str(e["precision"]).startswith("int8 ")]  # fmt: skip
    return ["--int8-profile", names[0]] if precision == "int8" and names else []


def limits_text(limits: Limits) -> str:
    """Say what may be spent."""
    budget = limits.budget
    parts = [
        None if budget.power_w is None else f"{budget.power_w:g} W",
        None if limits.memory_bytes is None else f"{limits.memory_bytes / 1e6:g} MB",
        None if budget.deadline_ms is None else f"{budget.deadline_ms:g} ms",
        None if budget.duty_share is None else f"duty {budget.duty_share:.0%}",
        None if budget.max_temp_c is None else f"{budget.max_temp_c:g} C",
        f"{limits.frames_per_s:.3g} frames/s",
    ]
    return ", ".join(part for part in parts if part)


def _shown(judged: list[Judged]) -> list[Judged]:
    """Return the best, and those that are rejected though they would be more accurate."""
    kept = [j for j in judged if not j.broken][: _SHOWN // 2]
    return kept + [j for j in judged if j.broken][: _SHOWN - len(kept)]


def _row(judged: Judged) -> dict[str, str]:
    costs, accuracy = judged.costs, judged.accuracy
    about, needs = "" if costs.measured else "~", costs.trainer_bytes
    return {
        "candidate": "{} {} {}".format(*judged.candidate.key),
        "% right": "" if accuracy is None else f"{100 * accuracy:.1f}",
        "ms": f"{about}{costs.frame_ms:.1f}",
        "mJ": "absent" if costs.frame_mj is None else f"{about}{costs.frame_mj:.0f}",
        "MB": f"{about}{needs / 1e6:.0f}" if needs is not None else "absent",
        "latents/MB": f"{judged.latents_per_mb:.0f}",
        "held": f"{judged.latents_per_mb * judged.memory_bytes / 1e6:.0f}",
        "steps/s": f"{about}{judged.steps_per_s:.1f}",
        "breaks": judged.broken,
    }


def _cost_lines(plan: Plan) -> list[str]:
    machine = plan.facts["machine"]
    where = machine.get("board_model") or machine.get("cpu_model", "an unknown machine")
    bundles = plan.facts["bundles"]
    names = ", ".join(f"{e['input_size']} px {e['cut']} {e['precision']}" for e in bundles)
    return [
        f"costs: measured on {where} for {names}; `~` is scaled from these by multiply-adds",
        "ms and mJ: of a frame, the latter above idle; MB: data of the trainer, as `plr-edge run "
        "--memory` limits it",
    ]


def _gets(best: Judged, limits: Limits) -> list[str]:
    """Say what the recommended candidate gets."""
    costs = best.costs
    lines = [
        f"  {best.steps_per_s:.1f} training steps/s of {best.step_ms:.1f} ms; the "
        f"{CONSOLIDATE_STEPS} after a lesson take {consolidation_s(best):.0f} s",
        f"  {best.latents_per_mb * best.memory_bytes / 1e6:.0f} latents in "
        f"{best.memory_bytes / 1e6:g} MB to rehearse from",
        f"  a frame takes {costs.frame_ms:.1f} ms, at most {costs.frame_p99_ms:.1f} in 99 of 100",
    ]
    if costs.answer_bytes is not None:
        lines.append(f"  what answers needs {costs.answer_bytes / 1e6:.0f} MB more")
    if best.watts is not None:
        lines.append(f"  {best.watts:.1f} W before training")
    if not costs.measured:
        lines.append("  these are estimates: export it there, and profile it")
    heat = limits.budget.max_temp_c
    if heat is not None:
        lines.append(f"  {heat:g} C: heat is not predicted; the governor trains less near it")
    return lines


def _gives_up(plan: Plan) -> list[str]:
    """Say what would be more accurate, or at least larger, and which budget stands in the way."""
    best = plan.best
    assert best is not None

    def gain(one: Judged) -> float:
        if one.accuracy is None or best.accuracy is None:
            return one.candidate.input_size - best.candidate.input_size
        return 100 * (one.accuracy - best.accuracy)

    most: dict[str, Judged] = {}  # by the budget that stands in the way
    for one in plan.judged:
        budget = one.broken.partition(":")[0]
        if budget and gain(one) > (gain(most[budget]) if budget in most else 0):
            most[budget] = one
    unit = "px" if best.accuracy is None else "points"
    return [
        f"  gives up {gain(one):.3g} {unit} to {one.candidate.name}, which breaks {one.broken}"
        for one in most.values()
    ]


def _schedule_rows(plan: Plan) -> list[dict[str, str]]:
    return [
        {
            "schedule": row["schedule"],
            "shares": "/".join(f"{s:.2f}".removeprefix("0") for s in row["shares"]),
            "step ms": f"{row['step_ms']:.1f}",
            "step mJ": "absent" if row["step_mj"] is None else f"{row['step_mj']:.0f}",
            "steps/s": f"{row['steps_per_s']:.1f}",
        }
        for row in plan.schedules
    ]


def _codec_rows(plan: Plan) -> list[dict[str, str]]:
    rows = []
    for i, row in enumerate(plan.codecs):
        why = "recommended" if i == 0 else ""
        if i and row["accuracy"] is None:
            why = _WHY_NOT[row["bits"], row["pool"] is not None]
        rows.append({
            "bits": str(row["bits"]),
            "pooled to": str(row["pool"] or "as it is"),
            "bytes": str(row["bytes"]),
            "latents/MB": f"{row['latents_per_mb']:.0f}",
            "held": str(row["held"]),
            "% right": "" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f}",
            "": why,
        })  # fmt: skip
    return rows


def _print(console: Any, title: str, rows: list[dict[str, str]]) -> None:
    """Print rows; a column that is empty throughout is left out."""
    from rich.table import Table

    columns = [c for c in rows[0] if any(row[c] for row in rows)]
    table = Table(title=title)
    left = ("candidate", "breaks", "schedule", "shares", "")
    for column in columns:
        table.add_column(column, justify="left" if column in left else "right")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console.print(table)
