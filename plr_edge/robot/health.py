"""Health: the state of a robot as a table that fits JSON. What was not measured is None."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plr_edge.robot.drift import Drift
from plr_edge.robot.governor_loop import GovernorLoop
from plr_edge.robot.recent_frames import NoveltyDetector
from plr_edge.robot.status import DROPPED, FAILED, UNKNOWN, RobotStatus

_DAMAGED = "what was learned is damaged; learning it again from its labels"


def health_of(loop: GovernorLoop, drift: Drift, novelty: NoveltyDetector) -> dict[str, Any]:
    """Return the health of a robot without its state. Any thread may ask.

    Args:
        loop: knows the model, its budgets and sensors.
        drift: how answers change.
        novelty: what the operator was asked about.
    """
    model, stats, sensors = loop.model, loop.stats, loop.sensors
    learned, trainer = model.learned, model.trainer
    return {
        "version": learned.version,
        "classes": len(learned.classes),
        "taught": learned.n_taught,
        "quarantined": model.counts.n_quarantined,
        "frames": stats.n_frames,
        "dropped": stats.total(DROPPED),
        "failed": stats.total(FAILED),
        "unknown": stats.total(UNKNOWN),
        "unknown_ratio": drift.unknown_ratio,
        "unknown_per_hour": drift.unknown_per_hour,
        "confidence_per_hour": drift.confidence_per_hour,
        "asked": list(novelty.asked),
        "frames_per_s": round(loop.frames_per_s, 2),
        "latency_ms_p50": stats.percentile_ms(0.5),
        "latency_ms_p99": stats.percentile_ms(0.99),
        "late": stats.n_late,
        "power_w": sensors.now.power_w,
        "energy_j": sensors.energy_j,
        "rss_bytes": sensors.now.memory_bytes.get("rss"),
        "canary": vars(learned.verdict) if learned.verdict else None,
        "generations_dropped": model.n_dropped,
        "trainer": {
            "alive": trainer.process.alive,
            "deaths": trainer.process.n_deaths,
            "steps_per_level": list(trainer.n_steps),
            "pid": child.pid if (child := trainer.process.child) else None,
            "batch": trainer.batch,
            **trainer.report,
        },
        "governor": str(loop.decision) if loop.decision else None,
        "levels": loop.level_costs(),
        "starved": loop.starvation.facts(),
        "consolidation": loop.consolidation.facts(),
        "state_bytes": loop.state_bytes,
        "written_today_bytes": loop.written_bytes,
    }


def status_of(
    loop: GovernorLoop,
    source_trouble: str,
    troubles: Mapping[str, str],
    *,
    started: bool,
    stopping: bool,
) -> RobotStatus:
    """Return the conditions that decide the state of a robot.

    Args:
        loop: knows the model and its training.
        source_trouble: why no frames come.
        troubles: what is wrong elsewhere, by who says so. `learned` says why nothing is used.
        started: whether the loop answers frames.
        stopping: whether the robot was asked to end.
    """
    model, process = loop.model, loop.model.trainer.process
    unused = _DAMAGED if model.learned.fell_back else troubles.get("learned", "")
    return RobotStatus(
        started=started,
        stopping=stopping,
        source_trouble=source_trouble,
        disk_trouble=model.disk_trouble,
        other_trouble="; ".join(filter(None, list(troubles.values()))),
        trainer_given_up=process.given_up,
        factory_trouble=model.restarts.trouble or unused,
        relearning=model.relearning,
        is_blank=not model.learned.n_taught,
        paused=loop.paused,
        to_train=bool(model.trainer.report.get("to_go", 0)) and process.alive,
        starved=loop.starvation.text,
        consolidating=loop.consolidation.text,
    )
