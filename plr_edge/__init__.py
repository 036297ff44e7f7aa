"""A robot learns new classes in the field, on the board it carries."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "AdaptConfig": "plr_edge.config",
    "AdaptSummary": "plr_edge.runtime.adapt",
    "EngineConfig": "plr_edge.config",
    "LearningConfig": "plr_edge.config",
    "Perception": "plr_edge.runtime.perception",
    "PlrEdgeError": "plr_edge.errors",
    "RobotOptions": "plr_edge.robot.options",
    "RosAdapter": "plr_edge.ros.adapter",
    "Session": "plr_edge.runtime.session",
    "adapt": "plr_edge.runtime.adapt",
    "export_bundle": "plr_edge.export",
    "load_backbone": "plr_edge.backbones",
    "open_bundle": "plr_edge.bundle.reading",
    "open_stream": "plr_edge.stream",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that light commands stay light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'plr_edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
