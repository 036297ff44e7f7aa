"""Health as Prometheus text. Absent figures are left out; class names never appear."""

from __future__ import annotations

from typing import Any

_NAMES = {
    "frames": ("frames_total", "counter", "Frames answered."),
    "dropped": ("frames_dropped_total", "counter", "Frames that a newer one replaced."),
    "unknown": ("unknown_total", "counter", "Frames answered with unknown."),
    "taught": ("labels_learned_total", "counter", "Labels learned."),
    "quarantined": ("labels_quarantined_total", "counter", "Labels that look like mistakes."),
    "classes": ("classes", "gauge", "Classes known."),
    "version": ("version", "gauge", "Version that answers."),
    "generations_dropped": ("generations_dropped_total", "counter", "Refused by the canary."),
    "frames_per_s": ("frames_per_second", "gauge", "Frames answered in a second."),
    "latency_ms_p50": ("latency_milliseconds_p50", "gauge", "Of recent frames."),
    "latency_ms_p99": ("latency_milliseconds_p99", "gauge", "Of recent frames."),
    "power_w": ("power_watts", "gauge", "Mean power of the last second."),
    "rss_bytes": ("resident_memory_bytes", "gauge", "Of the perception process."),
    "state_bytes": ("state_bytes", "gauge", "On disk."),
    "written_today_bytes": ("written_today_bytes", "gauge", "To the state, in 24 hours."),
}


def metrics_text(health: dict[str, Any]) -> str:
    """Return the exposition of what `Robot.health` returned."""
    lines = []
    trainer = health["trainer"]
    values = {**health, "trainer_deaths": trainer["deaths"], "trainer_up": int(trainer["alive"])}
    names = {
        **_NAMES,
        "trainer_deaths": ("trainer_deaths_total", "counter", "Times that the trainer ended."),
        "trainer_up": ("trainer_up", "gauge", "Whether the trainer runs."),
    }
    for key, (name, kind, text) in names.items():
        if values.get(key) is not None:
            lines += [
                f"# HELP plr_edge_{name} {text}",
                f"# TYPE plr_edge_{name} {kind}",
                f"plr_edge_{name} {values[key]}",
            ]
    lines += [
        "# HELP plr_edge_state Which state it is in.",
        "# TYPE plr_edge_state gauge",
        f'plr_edge_state{{state="{health["state"]}"}} 1',
    ]
    for level, steps in enumerate(trainer.get("steps_per_level", [])):
        lines.append(f'plr_edge_training_steps_total{{level="{level + 1}"}} {steps}')
    return "\n".join(lines) + "\n"
