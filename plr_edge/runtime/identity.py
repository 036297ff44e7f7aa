"""Identity: what a state has in common with whoever uses it, and the settings of its last use.

Latents of one frozen part fit no other, and those of one codec no other.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import Any

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StateError
from plr_edge.runtime.perception import check_state_fits
from plr_edge.store import Store


def identity(bundle: Bundle, config: LearningConfig) -> dict[str, Any]:
    """Return what a state must have in common with whoever uses it."""
    return {
        "bundle": bundle.name,
        "frozen_sha256": bundle.frozen_sha256,
        "codec": {"bits": config.bits, "pool": config.pool},
        "window": config.window,
        **({} if config.keeps_samples else {"rehearse": config.rehearse}),
    }


def with_window(config: LearningConfig, bundle: Bundle, store: Store | None) -> LearningConfig:
    """Return the settings with the window that applies: that of the state, if it has one.

    Args:
        config: how to learn.
        bundle: tells which windows there are.
        store: the state. One of an earlier version has blocks that take whole latents.

    Raises:
        ConfigError: the bundle does not allow the window.
        StateError: the state has another one.
    """
    window = bundle.window(config.window)
    side = window.side if window else 0
    kept = store.facts.get("identity") if store else None
    if kept is None or kept.get("frozen_sha256") != bundle.frozen_sha256:
        return replace(config, window=side)  # `check_identity` refuses the state of another bundle
    if kept.get("window", 0) != side:
        if config.window is not None:
            raise StateError(
                f"the blocks of this state take the window {kept.get('window', 0)} of latents; "
                "give the same --window, or another --state"
            )
        side = int(kept.get("window", 0))
    return replace(config, window=side)


def config_of(store: Store) -> LearningConfig:
    """Return the settings that a state was last used with."""
    kept = store.facts.get("config") or (store.facts.get("identity") or {}).get("codec", {})
    known = {field.name for field in fields(LearningConfig)}
    own: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in kept.items()
        if name in known
    }
    return LearningConfig(**own)


def _check_rehearsal(kept: str, config: LearningConfig, store: Store) -> None:
    """Refuse a state with latents where there may be none, and the reverse."""
    if kept == config.rehearse:
        return
    if kept == "stored":
        raise StateError(
            f"{store.path} keeps latents of single frames; leave out --rehearse {config.rehearse}, "
            "or choose another --state"
        )
    raise StateError(
        f"{store.path} keeps statistics only; give --rehearse {kept} to `plr-edge adapt`, or "
        "choose another --state; `plr-edge run` cannot learn without stored latents"
    )


def check_identity(store: Store, bundle: Bundle, config: LearningConfig) -> None:
    """Refuse a state of something else, and remember the settings it is used with.

    Raises:
        StateError: it belongs to another frozen part, another codec or a later release.
    """
    kept, mine = store.facts.get("identity"), identity(bundle, config)
    if kept is not None:
        check_state_fits(bundle, kept, store.path)
        if kept["codec"] != mine["codec"]:
            raise StateError(
                f"the state keeps latents at {kept['codec']['bits']} bits and pool "
                f"{kept['codec']['pool']}; give the same --bits and --pool, or another --state"
            )
        _check_rehearsal(kept.get("rehearse", "stored"), config, store)
    seen = int(store.facts.get("release", 0))
    if bundle.release < seen:
        raise StateError(
            f"{bundle.path} is release {bundle.release}; {store.path} has seen {seen}; use that "
            "one or a later one"
        )
    facts = {"identity": kept or mine, "release": bundle.release, "config": asdict(config)}
    changed = {k: v for k, v in facts.items() if json.dumps(v) != json.dumps(store.facts.get(k))}
    if changed and not store.refusal:
        store.facts.keep(**changed)
