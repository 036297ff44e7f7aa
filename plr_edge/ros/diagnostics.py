"""Health as a diagnostic_msgs/DiagnosticArray, without absent figures. It imports no ROS."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

OK, WARN = b"\x00", b"\x01"  # rclpy wants the `byte` of a message as bytes
_SILENT_S = 5.0
_BAD_STATES = ("degraded", "factory fallback", "starved")
_OF_HEALTH = (
    "frames_per_s", "latency_ms_p50", "latency_ms_p99", "frames", "dropped", "unknown", "power_w",
    "energy_j", "rss_bytes", "classes", "taught", "quarantined", "version", "generations_dropped",
    "governor", "state_bytes", "written_today_bytes",
)  # fmt: skip
_OF_TRAINER = ("alive", "deaths", "latents", "latents_bytes", "rss_bytes", "step_s", "to_go")


def diagnostics_of(
    health: Mapping[str, Any],
    types: Any,
    header: Any,
    *,
    active: bool,
    silent_s: float,
    refusal: str,
    n_refused: int,
) -> Any:
    """Return the health of a robot as a message.

    Args:
        health: what `Robot.health` returns.
        types: has DiagnosticArray, DiagnosticStatus and KeyValue.
        header: header of the message.
        active: whether images are taken.
        silent_s: seconds since the last image.
        refusal: why the last image could not be read. Empty if it could.
        n_refused: number of images that could not be read.
    """
    level, message = _verdict(health, active, silent_s, refusal)
    values = {name: health.get(name) for name in _OF_HEALTH}
    values |= {f"trainer_{name}": health["trainer"].get(name) for name in _OF_TRAINER}
    values |= {"images_refused": n_refused}
    status = types.DiagnosticStatus(
        level=level,
        name="plr_edge: learner",
        message=message,
        hardware_id=socket.gethostname(),
        values=[
            types.KeyValue(key=name, value=str(value))
            for name, value in values.items()
            if value is not None
        ],
    )
    return types.DiagnosticArray(header=header, status=[status])


def why_blind(refusal: str) -> str:
    """Return why a robot sees nothing, in words that stay the same while it does.

    Args:
        refusal: why the last image could not be read. Empty if none came.
    """
    return f"images cannot be read: {refusal}" if refusal else "no images come from the topic"


def _verdict(
    health: Mapping[str, Any], active: bool, silent_s: float, refusal: str
) -> tuple[bytes, str]:
    if health["state"] in _BAD_STATES:
        return WARN, f"{health['state']}: {health['reason']}"
    if not active:
        return OK, "inactive"
    if refusal:
        return WARN, why_blind(refusal)
    if silent_s > _SILENT_S:
        return WARN, f"no image for {silent_s:.0f} s"
    return OK, str(health["state"])
