"""RosAdapter: a `Robot` in terms of ROS 2 messages. It imports no ROS; message types are passed in.

It is what a lifecycle node needs besides rclpy. Answers go out through one function, which is
called on the robot's thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as AnswerTimeoutError
from pathlib import Path
from typing import Any

from plr_edge.bundle.reading import open_bundle
from plr_edge.errors import PlrEdgeError, StreamError
from plr_edge.robot.feeding import Sight
from plr_edge.robot.options import RobotOptions, make_robot
from plr_edge.robot.robot import Robot
from plr_edge.ros.diagnostics import diagnostics_of, why_blind
from plr_edge.ros.messages import MAX_CLASSES, Messages, RosFrame
from plr_edge.stream.bag_labels import best_class, stamp_ns_of
from plr_edge.stream.base import Frame, one_line
from plr_edge.stream.pixels import PixelRange
from plr_edge.stream.ros_image import image_of

_log = logging.getLogger(__name__)
_ANSWER_S = 60.0


class RosAdapter:
    """Connects the callbacks of a node with the thread of a robot.

    Attributes:
        robot: answers and learns.
        failure: why the robot ended. Empty while it runs.
    """

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
        """Start a robot that answers. It does not learn until `activate`.

        Args:
            robot: from `make_robot`.
            types: has the message types Time, Header, Classification, ObjectHypothesis, LabelInfo,
                VisionClass, DiagnosticArray, DiagnosticStatus and KeyValue.
            publish: called with a topic (`classification`, `label_info`, `taught` or
                `diagnostics`) and a message.
            now_ns: clock of the node.
            failed: called with the reason if the robot ends because of an error.
        """
        self.robot, self.failure = robot, ""
        self._types, self._publish, self._now_ns, self._failed = types, publish, now_ns, failed
        self._messages = Messages(types, now_ns)
        self._active = self._paused = False
        self._sent_classes: list[str] | None = None  # classes in the last LabelInfo
        self._n_images = self._n_refused = 0
        self._refusal, self._sight, self._since = "", Sight(), time.monotonic()
        self._pixels = PixelRange(log_level=logging.WARNING)
        robot.listeners.append(self._on_event)
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

        Args:
            bundle: directory of the bundle.
            state: directory of what is learned.
            options: options of the robot.
            arguments: arguments of `__init__` after `robot`.
            plan: with TensorRT, arguments of `open_plan`: `max_batch`, `workspace_bytes`, `why`.
            named: keyword arguments of `__init__`.

        Raises:
            PlrEdgeError: an option is not allowed, or bundle, state or engine cannot be used.
        """
        opened = open_bundle(bundle, options.trust)
        if options.engine == "tensorrt":
            from plr_edge.engines.plan_cache import open_plan

            open_plan(opened, **({} if plan is None else plan))
        return cls(make_robot(opened, Path(state), options), *arguments, **named)

    def activate(self) -> None:
        """Start learning, and publish the classes."""
        self._sight, self._since = Sight(), time.monotonic()
        self._active, self._sent_classes = True, None
        self._set_training()
        self.robot.call(self._send_classes)

    def deactivate(self) -> tuple[bool, str]:
        """Stop training, and write what was learned. Return success and message."""
        self._active = False
        return self._tried(lambda: f"{self._set_training()}: {self.save()}")

    def close(self) -> None:
        """Write what was learned, and release engines, trainer and state."""
        self._active = False
        if self._on_event in self.robot.listeners:
            self.robot.listeners.remove(self._on_event)
        self.robot.stop()
        self._thread.join()
        self.robot.model.close()

    def image(self, message: Any) -> None:
        """Take a sensor_msgs/Image or CompressedImage. One that cannot be read is counted."""
        if not self._active:
            return
        frame_id = str(message.header.frame_id)
        source = one_line(frame_id, 80) or "image"
        try:
            pixels = image_of(message, source, self._pixels)
        except StreamError as error:
            self._n_refused += 1
            if str(error) != self._refusal:
                _log.warning("%s", error)
            self._refusal = str(error)
            return
        self._refusal = ""
        stamp_ns = stamp_ns_of(message.header.stamp) or self._now_ns()
        frame = RosFrame(pixels, None, stamp_ns, source, self._n_images, frame_id=frame_id)
        self._sight.saw(time.monotonic())
        self.robot.put(frame)
        self._n_images += 1

    def teach(self, message: Any) -> None:
        """Take a vision_msgs/Classification: its best class labels the frame with its stamp.

        Without a stamp it labels the newest frame. What was taught is published as `taught`, once
        it is on disk. What could not be taught is logged.
        """
        if not self._active:
            _log.warning("not taught: the node is not active")
            return
        label, stamp_ns = best_class(message), stamp_ns_of(message.header.stamp)
        if label is None:
            _log.warning("not taught: the message names no class; ~/undo takes a label back")
            return
        newest: list[Frame] = []  # when the robot gets to it

        def act() -> Any:
            newest.extend(self.robot.latest[:1] if self.robot.latest else ())
            return self.robot.requests.teach(label, stamp_ns=stamp_ns or None, source="ros")

        self.robot.call(act).add_done_callback(
            lambda done: self._on_taught(done, label, stamp_ns, newest)
        )

    def serve(self, name: str) -> tuple[bool, str]:
        """Do what a std_srvs/Trigger of `SERVICES` asks for. Return success and message."""
        assert name in self.SERVICES
        return self._tried(getattr(self, name))

    def undo(self) -> str:
        """Take the newest label back."""
        return _undone(self._wait_for(lambda: self.robot.requests.undo(last=1)))

    def rollback(self) -> str:
        """Go back to the generation before."""
        undone = _undone(self._wait_for(self.robot.requests.rollback))
        return f"back at the generation before; {undone}"

    def save(self) -> str:
        """Write a generation."""
        answer = self._wait_for(self.robot.requests.save)
        what = "a generation is written"
        if not answer["saved"]:
            what = f"no generation was written ({answer['reason']})"
        return f"{what}; {answer['taught']} labels are on disk"

    def pause(self) -> str:
        """Pause training until `resume`. Answering and teaching continue."""
        self._paused = True
        return self._set_training()

    def resume(self) -> str:
        """Continue training, as soon as the node is active."""
        self._paused = False
        return self._set_training()

    # on the robot's thread

    def _run(self) -> None:
        try:
            self.robot.run()
        except Exception as error:  # whatever it is, the node must hear of it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self.failure:
            return
        self.failure = one_line(error, 300) or type(error).__name__
        _log.critical("the robot ended: %s", self.failure, exc_info=error)
        self.robot.stop()
        self._failed(self.failure)

    def _on_event(self, kind: str, payload: dict[str, Any]) -> None:
        if kind == "prediction" and self._active:
            self._send_answer()
        elif kind in ("taught", "undone"):
            self._send_classes()
        elif kind == "status":
            blind = self._active and self._sight.is_blind(time.monotonic(), self._since)
            self.robot.troubles["images"] = why_blind(self._refusal) if blind else ""
            self._send_classes()
            self._send("diagnostics", self._diagnostics())

    def _on_taught(self, done: Future[Any], label: str, stamp_ns: int, newest: list[Frame]) -> None:
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
        # without a frame it would have been refused
        self._send("taught", self._messages.taught(newest[0], label, stamp_ns))

    def _send_answer(self) -> None:
        assert self.robot.latest is not None
        self._send("classification", self._messages.answer(*self.robot.latest))

    def _send_classes(self) -> None:
        classes = self.robot.model.learned.classes[:MAX_CLASSES]
        if self._active and classes != self._sent_classes:
            self._sent_classes = list(classes)
            self._send("label_info", self._messages.label_info(classes))

    def _send(self, topic: str, message: Any) -> None:
        if self.failure:
            return
        try:
            self._publish(topic, message)
        except Exception as error:  # rclpy raises many kinds once its context is gone
            self._fail(error)

    def _diagnostics(self) -> Any:
        silent_s = self._sight.silent_s(time.monotonic(), self._since) if self._active else 0.0
        return diagnostics_of(
            self.robot.health(),
            self._types,
            self._messages.header(),
            active=self._active,
            silent_s=silent_s,
            refusal=self._refusal,
            n_refused=self._n_refused,
        )

    # on the node's thread

    def _set_training(self) -> str:
        paused = self._paused or not self._active
        return str(self._wait_for(lambda: self.robot.pause(paused))["state"])

    def _tried(self, act: Callable[[], str]) -> tuple[bool, str]:
        try:
            return True, act()
        except PlrEdgeError as error:
            return False, str(error)
        except (AnswerTimeoutError, CancelledError):
            return False, self.failure or "busy; try again"

    def _wait_for(self, act: Callable[[], Any]) -> Any:
        return self.robot.call(act).result(0.0 if self.failure else _ANSWER_S)


def _undone(answer: dict[str, Any]) -> str:
    n = answer["undone"]
    return "1 label undone" if n == 1 else f"{n} labels undone"
