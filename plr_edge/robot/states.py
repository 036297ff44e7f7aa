"""The one state machine of a robot: what it says of itself, from what is the case. Pure."""

from __future__ import annotations

from dataclasses import dataclass

STARTING, SERVING, LEARNING, PAUSED = "starting", "serving", "learning", "paused"
DEGRADED, FACTORY, STOPPING = "degraded", "factory fallback", "stopping"
STATES = (STARTING, SERVING, LEARNING, PAUSED, DEGRADED, FACTORY, STOPPING)


@dataclass(frozen=True, kw_only=True)
class RobotStatus:
    """What is the case; troubles are texts, empty where there is none.

    Attributes:
        started: the loop answers.
        stopping: it was told to end.
        source_trouble: why no frames come.
        disk_trouble: why labels are refused.
        trainer_given_up: it died too often to be started again.
        factory_trouble: why the exported weights answer.
        paused: training was told to wait.
        to_train: labels are still being learned.
    """

    started: bool = True
    stopping: bool = False
    source_trouble: str = ""
    disk_trouble: str = ""
    trainer_given_up: bool = False
    factory_trouble: str = ""
    paused: bool = False
    to_train: bool = False


def state_of(now: RobotStatus) -> tuple[str, str]:
    """Return the state, and the reason where one is due; the first that applies."""
    if now.stopping:
        return STOPPING, ""
    if not now.started:
        return STARTING, ""
    troubles = [now.source_trouble, now.disk_trouble]
    if now.trainer_given_up:
        troubles.append("the trainer keeps dying; answering without learning")
    if any(troubles):
        return DEGRADED, "; ".join(filter(None, troubles))
    if now.factory_trouble:
        return FACTORY, now.factory_trouble
    if now.paused:
        return PAUSED, ""
    return (LEARNING, "") if now.to_train else (SERVING, "")
