"""Run report: frames, versions, decisions of the governor and energy of a run, as JSON or page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plr_edge.files import replace_file
from plr_edge.report import page as report
from plr_edge.robot.robot import Robot

_MOST_ROWS = 40  # of the page; JSON has them all
_EVENTS = ("published", "dropped", "trainer", "unknown", "rollback", "undone")


def run_facts(robot: Robot) -> dict[str, Any]:
    """Return what a run did. It fits JSON."""
    model, trainer, rows = robot.model, robot.model.trainer, robot.governor_loop.timeline.rows
    step_s = [s / n if n else None for s, n in zip(trainer.steps_s, trainer.n_steps, strict=True)]
    events = [
        [at_ns, kind, text]
        for at_ns, kind, text in model.store.events
        if kind in _EVENTS and at_ns >= robot.began_ns
    ]
    budget = {name: value for name, value in vars(robot.governor.budget).items() if value}
    return {
        "bundle": model.bundle.name,
        "precision": model.bundle.precision,
        "schedule": model.schedule.name,
        "budget": budget,
        "levels": [level.name for level in model.bundle.levels],
        "shares": robot.governor.schedule.shares,
        "step_s": step_s,
        "steps": list(trainer.n_steps),
        **robot.health(),
        "rails_j": robot.sensors.rails_j,
        "seconds": rows[-1]["at_s"] if rows else 0.0,
        "events": events,
        "record": rows,
    }


def write_run_report(robot: Robot, path: Path) -> None:
    """Write a page if the name ends in .html, and JSON otherwise.

    Raises:
        ConfigError: the file cannot be written.
    """
    facts = run_facts(robot)
    if path.suffix.lower() != ".html":
        replace_file(path, json.dumps(facts, indent=1).encode())
        return
    report.write_report(path, f"plr-edge run: {facts['bundle']}", _sections(facts))


def _sections(facts: dict[str, Any]) -> list[str]:
    watts = f"{facts['energy_j'] / facts['seconds']:.1f} W" if facts["energy_j"] else "absent"
    latency = facts["latency_ms_p99"]
    figures = {
        "frames answered": f"{facts['frames']:,}",
        "dropped": f"{facts['dropped']:,}",
        "latency, 99th percentile": "absent" if latency is None else f"{latency:.1f} ms",
        "labels learned": f"{facts['taught']:,}",
        "version": str(facts["version"]),
        "mean power": watts,
    }
    levels = zip(facts["levels"], facts["shares"], facts["steps"], facts["step_s"], strict=True)
    rows = [
        {"level": name, "share": share, "steps": steps, "ms a step": None if s is None else 1e3 * s}
        for name, share, steps, s in levels
    ]
    budget = ", ".join(f"{name} {value:g}" for name, value in facts["budget"].items())
    record = facts["record"]
    thin = record[:: max(1, -(-len(record) // _MOST_ROWS))]
    events = [{"event": kind, "what": text} for _, kind, text in facts["events"]]
    return [
        report.key_figures(figures),
        report.section(
            "What the governor decided",
            report.paragraph(f"Budget: {budget or 'none'}. Schedule: {facts['schedule']}."),
            report.table(rows, "Levels; the share is that of the last decision."),
            report.table(thin, f"One row of {max(1, -(-len(record) // _MOST_ROWS))}."),
        ),
        report.section("What happened", report.table(events)),
    ]
