"""RosAdapter: a `Robot` in terms of ROS 2 messages. Imports no ROS; message types are handed in.

What a lifecycle node needs beside rclpy. What is answered goes out by one function, which is called
on the robot's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as AnswerTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import PlrEdgeError, StreamError
from plr_edge.robot.options import RobotOptions, make_robot
from plr_edge.robot.robot import Robot
from plr_edge.ros.diagnostics import diagnostics_of
from plr_edge.runtime.perception import UNKNOWN
from plr_edge.stream.bag_labels import best_class, stamp_ns_of
from plr_edge.stream.base import Frame, one_line
from plr_edge.stream.ros_image import image_of

_log = logging.getLogger(__name__)
_ANSWER_S = 60.0
_NS = 1_000_000_000
_MOST_CLASSES = 65535  # vision_msgs/VisionClass counts in uint16, and keeps the last for itself


@dataclass(frozen=True)
class RosFrame(Frame):
    """A frame that remembers `header.frame_id` of its message."""

    frame_id: str = ""


class RosAdapter:
    """Between the callbacks of a node and the thread of a robot."""

    SERVICES = ("undo", "rollback", "save", "pause", "resume")

    def __init__(
        self,
        robot: Robot,
        types: Any,
        publish: Callable[[str, Any], None],
        *,
        now_ns: Callable[[], int] = time.time_ns,
        failed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Start a robot that answers, but does not learn until `activate`.

        Args:
            robot: from `make_robot`.
            types: has the message types Time, Header, Classification, ObjectHypothesis, LabelInfo,
                VisionClass, DiagnosticArray, DiagnosticStatus and KeyValue.
            publish: takes `classification`, `label_info`, `taught` or `diagnostics`, and what to
                publish there.
            now_ns: the node's clock.
            failed: is told why the robot will not answer any more.
        """
        self.robot, self.failure = robot, ""
        self._types, self._publish, self._now_ns, self._failed = types, publish, now_ns, failed
        self._active = self._paused = False
        self._told: list[str] | None = None  # classes in the last LabelInfo
        self._n_images = self._n_refused = 0
        self._refusal, self._heard_at = "", time.monotonic()
        robot.listeners.append(self._listen)
        self._thread = threading.Thread(target=self._run, name="plr-edge", daemon=True)
        self._thread.start()
        self._set_training()

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        state: str | Path,
        options: RobotOptions,
        *arguments: Any,
        plan: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> RosAdapter:
        """Load engines and state, which may take minutes, and start the robot.

        What is not for `make_robot` is for `__init__`; but `plan` holds, with TensorRT, what
        `open_plan` takes: `max_batch`, `workspace_bytes`, `why`.

        Raises:
            PlrEdgeError: an option is not allowed, or bundle, state or engine cannot be used.
        """
        opened = open_bundle(bundle, options.trust)
        if options.engine == "tensorrt":
            from plr_edge.engines.plan_cache import open_plan

            open_plan(opened, **(plan or {}))
        return cls(make_robot(opened, Path(state), options), *arguments, **named)

    def activate(self) -> None:
        """Go on learning, and tell the classes to whoever listens."""
        self._active, self._told, self._heard_at = True, None, time.monotonic()
        self._set_training()
        self.robot.call(self._tell_classes)

    def deactivate(self) -> tuple[bool, str]:
        """Stop training, and write what was learned; returns success and message."""
        self._active = False
        return self._tried(lambda: f"{self._set_training()}: {self.save()}")

    def close(self) -> None:
        """Write what was learned, and free engines, trainer and state."""
        self._active = False
        if self._listen in self.robot.listeners:
            self.robot.listeners.remove(self._listen)
        self.robot.stop()
        self._thread.join()
        self.robot.live.close()

    def image(self, message: Any) -> None:
        """Take a sensor_msgs/Image or CompressedImage; one that cannot be read is counted."""
        if not self._active:
            return
        self._heard_at = time.monotonic()
        frame_id = str(message.header.frame_id)
        source = one_line(frame_id, 80) or "image"
        try:
            pixels = image_of(message, source)
        except StreamError as error:
            self._n_refused += 1
            if str(error) != self._refusal:
                _log.warning("%s", error)
            self._refusal = str(error)
            return
        self._refusal = ""
        stamp_ns = stamp_ns_of(message.header.stamp) or self._now_ns()
        self.robot.put(RosFrame(pixels, None, stamp_ns, source, self._n_images, frame_id))
        self._n_images += 1

    def teach(self, message: Any) -> None:
        """Take a vision_msgs/Classification: its best class labels the frame of its stamp.

        Without a stamp, the newest frame. What was taught is published as `taught`, once it is on
        disk; what was not is logged.
        """
        if not self._active:
            _log.warning("not taught: the node is not active")
            return
        label, stamp_ns = best_class(message), stamp_ns_of(message.header.stamp)
        if label is None:
            _log.warning("not taught: the message names no class; ~/undo takes a label back")
            return
        frames: list[Frame] = []  # the newest, when the robot comes to it

        def act() -> Any:
            frames.extend(self.robot.latest[:1] if self.robot.latest else ())
            return self.robot.teach(label, stamp_ns=stamp_ns or None, source="ros")

        self.robot.call(act).add_done_callback(
            lambda done: self._taught(done, label, stamp_ns, frames)
        )

    def serve(self, name: str) -> tuple[bool, str]:
        """Do what a std_srvs/Trigger of `SERVICES` asks for; returns success and message."""
        assert name in self.SERVICES
        return self._tried(getattr(self, name))

    def undo(self) -> str:
        """Take the newest label back."""
        return _undone(self._asked(lambda: self.robot.undo(last=1)))

    def rollback(self) -> str:
        """Go back to the generation before."""
        return f"back at the generation before; {_undone(self._asked(self.robot.rollback))}"

    def save(self) -> str:
        """Write a generation, if training made one."""
        answer = self._asked(self.robot.save)
        what = "a generation is written" if answer["saved"] else "no generation was written"
        return f"{what}; {answer['taught']} labels are on disk"

    def pause(self) -> str:
        """Stop training until `resume`; answering and teaching go on."""
        self._paused = True
        return self._set_training()

    def resume(self) -> str:
        """Go on training, once the node is active."""
        self._paused = False
        return self._set_training()

    # what the robot's thread does

    def _run(self) -> None:
        try:
            self.robot.run()
        except Exception as error:  # whatever it is, somebody must hear of it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failure:
            return
        self.failure = one_line(error, 300) or type(error).__name__
        _log.critical("the robot ended: %s", self.failure, exc_info=error)
        self.robot.stop()
        self._failed(self.failure)

    def _listen(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "prediction" and self._active:
            self._answer()
        elif kind in ("taught", "undone"):
            self._tell_classes()
        elif kind == "status":
            self._tell_classes()
            self._send("diagnostics", self._diagnostics())

    def _answer(self) -> None:
        assert self.robot.latest is not None
        frame, prediction = self.robot.latest
        known = prediction.top if prediction.label != UNKNOWN else ()
        hypothesis = self._types.ObjectHypothesis
        results = [hypothesis(class_id=name, score=float(share)) for name, share in known]
        header = self._header(frame.stamp_ns, getattr(frame, "frame_id", ""))
        self._send("classification", self._types.Classification(header=header, results=results))

    def _taught(self, done: Future[Any], label: str, stamp_ns: int, newest: list[Frame]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if isinstance(error, PlrEdgeError):
            _log.warning("not taught: %s", error)
        elif error is not None:
            _log.error("not taught", exc_info=error)
        if error is not None:
            return
        if done.result()["quarantined"]:
            _log.warning("%s looks like a mistake; `plr-edge quarantine` shows it", one_line(label))
        frame = newest[0]  # without one it would have been refused
        header = self._header(stamp_ns or frame.stamp_ns, getattr(frame, "frame_id", ""))
        results = [self._types.ObjectHypothesis(class_id=label, score=1.0)]
        self._send("taught", self._types.Classification(header=header, results=results))

    def _tell_classes(self) -> None:
        classes = self.robot.live.classes[:_MOST_CLASSES]
        if self._active and classes != self._told:
            self._told = list(classes)
            known = [
                self._types.VisionClass(class_id=index, class_name=name)
                for index, name in enumerate(classes)
            ]
            header = self._header(self._now_ns(), "")
            message = self._types.LabelInfo(header=header, class_map=known, threshold=0.0)
            self._send("label_info", message)

    def _diagnostics(self) -> Any:
        silent_s = time.monotonic() - self._heard_at if self._active else 0.0
        return diagnostics_of(
            self.robot.health(),
            self._types,
            self._header(self._now_ns(), ""),
            active=self._active,
            silent_s=silent_s,
            refusal=self._refusal,
            n_refused=self._n_refused,
        )

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        stamp = self._types.Time(sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)
        return self._types.Header(stamp=stamp, frame_id=frame_id)

    def _send(self, topic: str, message: Any) -> None:
        if self.failure:
            return
        try:
            self._publish(topic, message)
        except Exception as error:  # rclpy has many kinds of them, once its context is gone
            self._fail(error)

    def _set_training(self) -> str:
        paused = self._paused or not self._active
        return str(self._asked(lambda: self.robot.pause(paused))["state"])

    def _tried(self, act: Callable[[], str]) -> tuple[bool, str]:
        try:
            return True, act()
        except PlrEdgeError as error:
            return False, str(error)
        except (AnswerTimeoutError, CancelledError):
            return False, self.failure or "busy; try again"

    def _asked(self, act: Callable[[], Any]) -> Any:
        return self.robot.call(act).result(0.0 if self.failure else _ANSWER_S)


def _undone(answer: dict[str, Any]) -> str:
    n = answer["undone"]
    return "1 label undone" if n == 1 else f"{n} labels undone"
