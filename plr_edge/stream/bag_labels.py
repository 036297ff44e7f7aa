"""What labels the frames of a recording: the messages of another topic, in one of two ways.

- std_msgs/String, latched: a text labels every frame recorded after it, until the next text; an
  empty one ends that. Both are compared by the time of recording, as a String has no stamp.
- vision_msgs/Classification, by stamp: `header.stamp` is that of the frame that is labelled,
  whenever it was said; of several the last counts, and one without results takes the label back.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plr_edge.stream.base import one_line

_log = logging.getLogger(__name__)
LabelOf = Callable[[int, int], "str | None"]  # of a frame's stamp_ns and recorded_ns


def unlabelled(stamp_ns: int, recorded_ns: int) -> None:
    """Label nothing."""
    return None


@dataclass
class Latched:
    """The last text that was recorded before a frame, or with it."""

    recorded_ns: Sequence[int]
    texts: Sequence[str]

    def __call__(self, stamp_ns: int, recorded_ns: int) -> str | None:
        at = bisect_right(self.recorded_ns, recorded_ns) - 1
        return (self.texts[at] or None) if at >= 0 else None


class ByStamp:
    """The label of the frame of a stamp."""

    def __init__(self, labels: dict[int, str | None]) -> None:
        self.labels = labels
        self._used: set[int] = set()

    def __call__(self, stamp_ns: int, recorded_ns: int) -> str | None:
        if stamp_ns in self.labels:
            self._used.add(stamp_ns)
        return self.labels.get(stamp_ns)

    def warn_of_unused(self, path: Path, topic: str) -> None:
        """Say how many labels named no frame."""
        n_unused = len(self.labels) - len(self._used)
        if n_unused:
            _log.warning(
                "%s: %d of %d labels of %s have the stamp of no frame",
                one_line(path), n_unused, len(self.labels), topic,
            )  # fmt: skip


def stamp_ns_of(stamp: Any) -> int:
    """Return a builtin_interfaces/Time in ns; 0 where nobody set it."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def best_class(message: Any) -> str | None:
    """Return the class of a vision_msgs/Classification with the highest score, None without any."""
    if not len(message.results):
        return None
    return str(max(message.results, key=lambda result: float(result.score)).class_id)
