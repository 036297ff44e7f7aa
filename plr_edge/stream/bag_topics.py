"""Chooses a topic of a recording by its name and type. Reads no message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plr_edge.errors import StreamError
from plr_edge.stream.base import one_line

STRING, CLASSIFICATION = "std_msgs/msg/String", "vision_msgs/msg/Classification"
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
LABEL_TYPES = (STRING, CLASSIFICATION)


def choose_topic(
    path: Path, connections: Sequence[Any], topic: str | None, types: Sequence[str], option: str
) -> list[Any]:
    """Return the connections of a topic.

    Args:
        path: the recording, for messages.
        connections: all connections of the recording.
        topic: name of the topic. None chooses the only one of the given types.
        types: message types that are allowed.
        option: option that names the topic, for messages.

    Raises:
        StreamError: there is no such topic, there are several, or it has another type. The message
            lists all topics.
    """
    fitting = sorted({c.topic for c in connections if c.msgtype in types and c.msgcount})
    if topic is None and len(fitting) == 1:
        topic = fitting[0]
    chosen = [c for c in connections if c.topic == topic]
    if chosen and all(c.msgtype in types for c in chosen):
        return chosen
    if topic is None:
        problem = f"{len(fitting)} topics of images; " + (
            f"choose one with {option}" if fitting else f"record {' or '.join(map(_short, types))}"
        )
    elif chosen:
        problem = f"{topic} of type {_short(chosen[0].msgtype)}; {option} needs " + " or ".join(
            map(_short, types)
        )
    else:
        problem = f"no topic {one_line(topic, 80)}; choose another {option}"
    held = ", ".join(sorted({f"{c.topic} ({_short(c.msgtype)})" for c in connections}))
    raise StreamError(
        f"{one_line(path)} has {problem}; its topics are {one_line(held, 1500) or 'none'}"
    )


def _short(msgtype: str) -> str:
    return msgtype.replace("/msg/", "/")
