"""Messages of ROS 2 that a robot publishes. It imports no ROS; message types are passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from plr_edge.runtime.prediction import UNKNOWN, Prediction
from plr_edge.stream.base import Frame

MAX_CLASSES = 65535  # vision_msgs/VisionClass counts in uint16, and reserves the last number
_NS = 1_000_000_000


@dataclass(frozen=True)
class RosFrame(Frame):
    """A frame with the `header.frame_id` of its message."""

    frame_id: str = ""


class Messages:
    """Makes messages of the given types."""

    def __init__(self, types: Any, now_ns: Callable[[], int]) -> None:
        """Make nothing yet.

        Args:
            types: see `RosAdapter`.
            now_ns: clock of the node.
        """
        self._types, self._now_ns = types, now_ns

    def answer(self, frame: Frame, prediction: Prediction) -> Any:
        """Return a Classification with the answer to a frame. An unknown frame has no results."""
        known = prediction.top if prediction.label != UNKNOWN else ()
        hypothesis = self._types.ObjectHypothesis
        results = [hypothesis(class_id=name, score=float(share)) for name, share in known]
        header = self.header(frame.stamp_ns, frame)
        return self._types.Classification(header=header, results=results)

    def taught(self, frame: Frame, label: str, stamp_ns: int) -> Any:
        """Return a Classification with the label that a frame was taught with.

        Args:
            frame: the newest frame when it was taught.
            label: the class.
            stamp_ns: stamp of the request. 0 for that of the frame.
        """
        results = [self._types.ObjectHypothesis(class_id=label, score=1.0)]
        header = self.header(stamp_ns or frame.stamp_ns, frame)
        return self._types.Classification(header=header, results=results)

    def label_info(self, classes: Sequence[str]) -> Any:
        """Return a LabelInfo with the classes, by index."""
        known = [
            self._types.VisionClass(class_id=index, class_name=name)
            for index, name in enumerate(classes)
        ]
        return self._types.LabelInfo(header=self.header(), class_map=known, threshold=0.0)

    def header(self, stamp_ns: int | None = None, frame: Frame | None = None) -> Any:
        """Return a Header, by default of now and without a frame id."""
        stamp_ns = self._now_ns() if stamp_ns is None else stamp_ns
        stamp = self._types.Time(sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)
        return self._types.Header(stamp=stamp, frame_id=getattr(frame, "frame_id", ""))
