"""Commands on a state: they ask the robot that uses it, or open it if none does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from plr_edge.cli.client import Target, answer


def robot_of(state: Path) -> Target | None:
    """Return the robot that uses a state, None if none says so."""
    from plr_edge.serve.access import address_of

    return None if address_of(state) is None else Target(state=state)


def asked_or_opened(state: Path, path: str, read: Callable[[Any], Any]) -> Any:
    """Return what a robot answers, or what is read from its state if no robot uses it.

    Args:
        state: directory of the state.
        path: path of the request.
        read: reads the open store.

    Raises:
        PlrEdgeError: the robot refuses, or the state cannot be read.
    """
    from plr_edge.store import opened_for_reading

    robot = robot_of(state)
    if robot is not None:
        return answer(robot, "GET", path)
    with opened_for_reading(state) as store:
        return read(store)


def changed(state: Path, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Have a robot change its state, and return its answer. None if no robot uses the state.

    Args:
        state: directory of the state.
        path: path of the request.
        body: the request; it gets a key.

    Raises:
        ConfigError: the robot refuses.
    """
    import secrets

    robot = robot_of(state)
    if robot is None:
        return None
    done: dict[str, Any] = answer(robot, "POST", path, {**body, "key": secrets.token_hex(8)})
    return done
