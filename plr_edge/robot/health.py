"""Health: what a robot says of itself, in facts that fit JSON; what was not measured is None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plr_edge.robot.counts import FAILED

if TYPE_CHECKING:
    from plr_edge.robot.robot import Robot


def health_of(robot: Robot) -> dict[str, Any]:
    """Return the state of the whole; any thread may ask."""
    live, overseer, counts = robot.live, robot.overseer, robot.counts
    return {
        "state": robot.state,
        "reason": robot.reason,
        "version": live.version,
        "classes": len(live.classes),
        "taught": live.n_taught,
        "quarantined": live.n_quarantined,
        "frames": robot.n_frames,
        "dropped": robot.n_dropped,
        "failed": counts.total(FAILED),
        "unknown": robot.n_unknown,
        "unknown_ratio": robot.drift.unknown_ratio,
        "unknown_per_hour": robot.drift.unknown_per_hour,
        "confidence_per_hour": robot.drift.confidence_per_hour,
        "asked": list(robot.strangers.asked),
        "frames_per_s": round(overseer.frames_per_s, 2),
        "latency_ms_p50": counts.percentile_ms(0.5),
        "latency_ms_p99": counts.percentile_ms(0.99),
        "late": counts.n_late,
        "power_w": robot.sensors.now.power_w,
        "energy_j": robot.sensors.energy_j,
        "rss_bytes": robot.sensors.now.memory_bytes.get("rss"),
        "canary": vars(live.verdict) if live.verdict else None,
        "generations_dropped": live.n_dropped,
        "trainer": {
            "alive": live.trainer.alive,
            "deaths": live.trainer.n_deaths,
            "steps_per_level": list(live.n_steps),
            **live.report,
        },
        "governor": str(overseer.decision) if overseer.decision else None,
        "state_bytes": overseer.state_bytes,
        "written_today_bytes": overseer.written_bytes,
    }
