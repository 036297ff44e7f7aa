"""Resuming: a session on a state, with the settings that the state was last taught with."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.runtime.session import Session
from plr_edge.store import opened_for_reading


def resume(
    bundle: Bundle, path: str | Path, n_threads: int = 1, *, allow_code: bool = False
) -> Session:
    """Open a session on a state, with the settings that it was last taught with.

    Raises:
        StateError: there is none, or it cannot be used.
    """
    with opened_for_reading(path) as store:
        kept = store.facts.get("config") or (store.facts.get("identity") or {}).get("codec", {})
    known = {field.name for field in fields(LearningConfig)}
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in kept.items()
        if name in known
    }
    engines = EngineConfig(n_threads=n_threads, allow_code=allow_code)
    return Session(bundle, path, LearningConfig(**own), engines)
