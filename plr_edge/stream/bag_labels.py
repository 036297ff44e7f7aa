"""Labels the frames of a recording by the messages of another topic, in one of two ways.

- std_msgs/String, latched: a text labels every frame recorded after it, until the next text. An
  empty text ends the labelling. Frames and texts are compared by the time of recording, because a
  String has no stamp.
- vision_msgs/Classification, by stamp: `header.stamp` is the stamp of the frame to label, no matter
  when the message was recorded. Of several for one frame the last counts. One without results
  withdraws the label.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plr_edge.stream.base import one_line

_log = logging.getLogger(__name__)
LabelOf = Callable[[int, int], "str | None"]  # from stamp_ns and recorded_ns


def unlabelled(stamp_ns: int, recorded_ns: int) -> None:
    """Return no label."""
    return None


@dataclass
class Latched:
    """Labels a frame with the last text recorded before it, or at the same time.

    Attributes:
        recorded_ns: times of recording of the texts, ascending.
        texts: the texts.
    """

    recorded_ns: Sequence[int]
    texts: Sequence[str]

    @property
    def names(self) -> set[str]:
        """Labels that occur."""
        return {text for text in self.texts if text}

    def __call__(self, stamp_ns: int, recorded_ns: int) -> str | None:
        at = bisect_right(self.recorded_ns, recorded_ns) - 1
        return (self.texts[at] or None) if at >= 0 else None


class ByStamp:
    """Labels the frame with a given stamp."""

    def __init__(self, labels: dict[int, str | None]) -> None:
        self.labels = labels
        self._used: set[int] = set()

    @property
    def names(self) -> set[str]:
        """Labels that occur."""
        return {label for label in self.labels.values() if label}

    def __call__(self, stamp_ns: int, recorded_ns: int) -> str | None:
        if stamp_ns in self.labels:
            self._used.add(stamp_ns)
        return self.labels.get(stamp_ns)

    def warn_of_unused(self, path: Path, topic: str) -> None:
        """Log how many labels matched no frame."""
        n_unused = len(self.labels) - len(self._used)
        if n_unused:
            _log.warning(
                "%s: %d of %d labels on %s match no frame by their stamps",
                one_line(path), n_unused, len(self.labels), topic,
            )  # fmt: skip


def stamp_ns_of(stamp: Any) -> int:
    """Return a builtin_interfaces/Time in ns. 0 means that it was not set."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def best_class(message: Any) -> str | None:
    """Return the best class of a vision_msgs/Classification. None if it has no results.

    A result with a score of NaN counts only if it is the only one.
    """
    results = message.results
    scored = [one for one in results if not math.isnan(float(one.score))]
    if len(results) == 1:
        return str(results[0].class_id)
    if len(results) and not scored:
        _log.warning("a label with %d classes has a score of NaN for each; ignored", len(results))
    return str(max(scored, key=lambda one: float(one.score)).class_id) if scored else None
