"""A robot as Prometheus text. Absent figures are left out; no class, path or token appears."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from plr_edge.robot.robot import Robot
from plr_edge.robot.status import BOUNDS_S, STATES

Samples = Iterable[tuple[str, Mapping[str, str], float | int | None]]  # suffix, labels, value


def metrics_text(robot: Robot) -> str:
    """Return the exposition (text format 0.0.4); any thread may ask."""
    blocks = (_block(*family) for family in _families(robot))
    return "".join(block for block in blocks if block)


def _families(robot: Robot) -> Iterable[tuple[str, str, str, Samples]]:
    """Yield name, type, help and samples."""
    model, stats, sensed, loop = robot.model, robot.stats, robot.sensors.now, robot.governor_loop
    learned, trainer, decision = model.learned, model.trainer, loop.decision
    report = trainer.report
    yield "build_info", "gauge", "What runs.", [("", _build(robot), 1)]
    yield (
        "state",
        "gauge",
        "1 for the state that it is in.",
        [("", {"state": state}, int(state == robot.state)) for state in STATES],
    )
    yield (
        "frames_total",
        "counter",
        "Frames by kind of source and outcome.",
        [
            ("", {"source": kind, "outcome": outcome}, n)
            for (kind, outcome), n in sorted(stats.by.copy().items())
        ],
    )
    yield "inference_seconds", "histogram", "From image to answer.", _histogram(robot)
    yield _one("frames_late_total", "Answers older than the deadline.",
               stats.n_late if stats.deadline_ms is not None else None)  # fmt: skip
    yield _one("frames_per_second", "Frames answered.", loop.frames_per_s)
    yield _one("unknown_ratio", "Unknown frames in the last hour.", robot.drift.unknown_ratio)
    yield _one("unknown_drift_per_hour", "Its rise in an hour.", robot.drift.unknown_per_hour)
    yield _one("confidence_drift_per_hour", "Rise of the mean confidence in an hour.",
               robot.drift.confidence_per_hour)  # fmt: skip
    yield _one("classes", "Classes known.", len(learned.classes))
    yield _one("version", "Version that answers.", learned.version)
    yield _one("labels_learned_total", "Labels learned.", learned.n_taught)
    yield _one("labels_quarantined_total", "Labels like mistakes.", learned.n_quarantined)
    yield _one("generations_refused_total", "Candidates that did not pass.", model.n_dropped)
    yield "train_steps_total", "counter", "Training steps by level.", _levels(trainer.n_steps)
    yield "train_step_seconds", "summary", "Processor time of steps by level.", [
        *_levels(trainer.steps_s, "_sum"), *_levels(trainer.n_steps, "_count"),
    ]  # fmt: skip
    yield _one("trainer_up", "Whether the trainer runs.", int(trainer.process.alive))
    yield _one("trainer_deaths_total", "Times that it ended.", trainer.process.n_deaths)
    yield _one("governor_steps_per_second", "Steps that the governor allows.",
               decision.steps_per_s if decision else None)  # fmt: skip
    yield (
        "governor_share",
        "gauge",
        "Share of the steps by level.",
        _levels(decision.shares if decision else ()),
    )
    yield (
        "energy_joules_total",
        "counter",
        "By rail; `total` is the board's, not one more.",
        [("", {"rail": rail}, joules) for rail, joules in sorted(robot.sensors.rails_j.items())],
    )
    yield (
        "power_watts",
        "gauge",
        "Mean of the last second by rail; `total` as above.",
        [("", {"rail": rail}, watts) for rail, watts in sorted(sensed.rails_w.items())],
    )
    yield (
        "temperature_celsius",
        "gauge",
        "By thermal zone.",
        [("", {"zone": zone}, degrees) for zone, degrees in sorted(sensed.temps_c.items())],
    )
    memory = {**sensed.memory_bytes, "trainer_rss": report.get("rss_bytes")}
    yield (
        "memory_bytes",
        "gauge",
        "Of perception by kind, and of the trainer.",
        [("", {"kind": kind}, n_bytes) for kind, n_bytes in sorted(memory.items())],
    )
    yield _one("replay_items", "Latents to rehearse from.", report.get("latents"))
    yield _one("replay_bytes", "Bytes of them.", report.get("latents_bytes"))
    yield _one("state_bytes", "Of the state on disk.", loop.state_bytes)
    yield _one("state_written_bytes", "In 24 hours.", loop.written_bytes)


def _one(name: str, text: str, value: float | int | None) -> tuple[str, str, str, Samples]:
    kind = "counter" if name.endswith("_total") else "gauge"
    return name, kind, text, [("", {}, value)]


def _levels(values: Iterable[float | int], suffix: str = "") -> list[Any]:
    return [(suffix, {"level": str(level)}, value) for level, value in enumerate(values, 1)]


def _histogram(robot: Robot) -> Samples:
    total = 0
    for bound, n in zip((*BOUNDS_S, "+Inf"), list(robot.stats.in_bounds), strict=True):
        total += n
        yield "_bucket", {"le": str(bound)}, total
    yield "_sum", {}, robot.stats.latency_sum_s
    yield "_count", {}, total


def _build(robot: Robot) -> dict[str, str]:
    bundle = robot.model.bundle
    return {
        "version": version("plr-edge"),
        "python": platform.python_version(),
        "backbone": str(bundle.manifest["backbone"]),
        "precision": bundle.precision,
        "engine": robot.model.engines.engine,
    }


def _block(name: str, kind: str, text: str, samples: Samples) -> str:
    lines = [
        f"plr_edge_{name}{suffix}{_labels(labels)} {value}\n"
        for suffix, labels, value in samples
        if value is not None
    ]
    if not lines:
        return ""
    head = f"# HELP plr_edge_{name} {text}\n# TYPE plr_edge_{name} {kind}\n"
    return head + "".join(lines)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
