"""The lifecycle node: rclpy around `plr_edge.RosAdapter`, which has the logic.

configure loads bundle, state and engines; activate subscribes and learns; deactivate stops
learning and writes; cleanup frees everything.
"""

import functools
import logging
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from vision_msgs.msg import Classification, LabelInfo, ObjectHypothesis, VisionClass

try:
    from plr_edge import PlrEdgeError, RobotOptions, RosAdapter
except ImportError as error:
    raise SystemExit(
        f"plr-edge cannot be imported by {sys.executable} ({error}); activate the virtual "
        "environment that has it, or put its site-packages on PYTHONPATH"
    ) from None

MESSAGES = SimpleNamespace(
    Time=Time, Header=Header, Classification=Classification, ObjectHypothesis=ObjectHypothesis,
    LabelInfo=LabelInfo, VisionClass=VisionClass, DiagnosticArray=DiagnosticArray,
    DiagnosticStatus=DiagnosticStatus, KeyValue=KeyValue,
)  # fmt: skip
IMAGES = {"raw": Image, "compressed": CompressedImage}
# texts as `plr-edge run` takes them; empty is "not given"
OPTIONS = (
    "board",
    "power",
    "duty",
    "deadline",
    "max_temp",
    "memory",
    "cpus",
    "schedule",
    "latents",
)
PARAMETERS = {
    "model_file_path": "", "state_path": "", "image_transport": "raw", "engine": "onnx",
    "providers": "", "force_engine_update": False, "max_workspace_size": 0, "max_batch_size": 0,
    "verbose": False, "threads": 1, "bits": 0, "pool": 0, "trust": "", "allow_code": False,
    **dict.fromkeys(OPTIONS, ""),
}  # fmt: skip
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EACH = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def told(transition):
    """Log what a transition raises: rclpy makes ERROR of it without a word."""

    @functools.wraps(transition)
    def wrapped(self, state):
        try:
            return transition(self, state)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return wrapped


class PlrEdgeNode(LifecycleNode):
    """Answers images, and can be taught."""

    def __init__(self, **kwargs):
        """Declare parameters; everything else waits for `on_configure`."""
        super().__init__("plr_edge", **kwargs)
        for name, default in PARAMETERS.items():
            self.declare_parameter(name, default)
        self.adapter, self.failure = None, ""
        self.outputs, self.inputs, self.requests = {}, [], []  # publishers, subscriptions, services
        self.for_images = MutuallyExclusiveCallbackGroup()
        self.for_requests = MutuallyExclusiveCallbackGroup()
        self.log_handler = ToRos(self.get_logger())

    @told
    def on_configure(self, state):
        """Load bundle, state and engines; minutes, where a plan must be built."""
        logger = logging.getLogger("plr_edge")
        logger.addHandler(self.log_handler)
        logger.setLevel(logging.DEBUG if self.value("verbose") else logging.INFO)
        try:
            self.check_parameters()
            self.make_outputs()
            self.adapter = self.open_adapter()
        except PlrEdgeError as error:
            self.get_logger().error(str(error))
            self.free()
            return TransitionCallbackReturn.FAILURE
        for name in RosAdapter.SERVICES:
            answer = functools.partial(self.serve, name)
            self.requests.append(
                self.create_service(Trigger, f"~/{name}", answer, callback_group=self.for_requests)
            )
        return super().on_configure(state)

    @told
    def on_activate(self, state):
        """Learn, and subscribe to images and labels."""
        result = super().on_activate(state)  # from here on what is published goes out
        self.adapter.activate()
        kind = IMAGES[self.value("image_transport")]
        self.inputs = [
            self.create_subscription(
                kind, "image", self.adapter.image, NEWEST, callback_group=self.for_images
            ),
            self.create_subscription(Classification, "~/teach", self.adapter.teach, EACH),
        ]
        return result

    @told
    def on_deactivate(self, state):
        """Hear nothing any more, stop training, and write what was learned."""
        self.hear_nothing()
        done, message = self.adapter.deactivate()
        if done:
            self.get_logger().info(message)
        else:
            self.get_logger().error(message)
        return super().on_deactivate(state)

    @told
    def on_cleanup(self, state):
        """Write what was learned, and free engines, trainer and state."""
        self.free()
        return super().on_cleanup(state)

    @told
    def on_shutdown(self, state):
        """Do as `on_cleanup`."""
        self.free()
        return super().on_shutdown(state)

    @told
    def on_error(self, state):
        """Do as `on_cleanup`, so that the node can be configured again."""
        self.free()
        return super().on_error(state)

    def value(self, name):
        """Return a parameter's value."""
        return self.get_parameter(name).value

    def check_parameters(self):
        """Refuse what no engine would ever see.

        Raises:
            PlrEdgeError: a parameter is missing, or is none.
        """
        for name in ("model_file_path", "state_path"):
            if not self.value(name):
                raise PlrEdgeError(f"the parameter {name} is not set; config/plr_edge.yaml has all")
        if self.value("image_transport") not in IMAGES:
            raise PlrEdgeError(
                f"image_transport is {self.value('image_transport')!r}; there are "
                + ", ".join(IMAGES)
            )

    def make_outputs(self):
        """Make the publishers; all but the diagnostics are silent until `on_activate`."""
        self.outputs = {
            "classification": self.create_lifecycle_publisher(Classification, "classification", 10),
            "label_info": self.create_lifecycle_publisher(LabelInfo, "label_info", LATCHED),
            "taught": self.create_lifecycle_publisher(Classification, "~/taught", EACH),
            "diagnostics": self.create_publisher(DiagnosticArray, "/diagnostics", 10),
        }

    def open_adapter(self):
        """Load everything.

        Raises:
            PlrEdgeError: something cannot be used.
        """
        providers = [name.strip() for name in self.value("providers").split(",")]
        options = RobotOptions(
            engine=self.value("engine"),
            providers=tuple(name for name in providers if name),
            threads=self.value("threads"),
            bits=self.value("bits") or None,
            pool=self.value("pool") or None,
            allow_code=self.value("allow_code"),
            trust=Path(self.value("trust")) if self.value("trust") else None,
            **{name: self.value(name) or None for name in OPTIONS},
        )
        plan = {
            "max_batch": self.value("max_batch_size") or None,
            "workspace_bytes": self.value("max_workspace_size") or None,
            "why": "force_engine_update is set" if self.value("force_engine_update") else None,
        }
        return RosAdapter.open(
            self.value("model_file_path"), self.value("state_path"), options, MESSAGES,
            self.publish,
            plan=plan, now_ns=lambda: self.get_clock().now().nanoseconds, failed=self.end,
        )  # fmt: skip

    def publish(self, topic, message):
        """Publish, as long as there is ROS."""
        if rclpy.ok():
            self.outputs[topic].publish(message)

    def serve(self, name, request, response):
        """Answer a std_srvs/Trigger."""
        adapter = self.adapter  # a call may still be on its way while the node is cleaned up
        answer = adapter.serve(name) if adapter else (False, "the node is not configured")
        response.success, response.message = answer
        return response

    def end(self, reason):
        """Let the process end, for launch to start it again."""
        if not rclpy.ok():  # it is ending already
            return
        self.failure = reason
        self.get_logger().fatal(f"ending: {reason}")
        rclpy.try_shutdown()

    def hear_nothing(self):
        """Unsubscribe."""
        while self.inputs:
            self.destroy_subscription(self.inputs.pop())

    def free(self):
        """Give everything back that `on_configure` and `on_activate` took; twice does no harm."""
        self.hear_nothing()
        while self.requests:
            self.destroy_service(self.requests.pop())
        adapter, self.adapter = self.adapter, None
        if adapter is not None:
            adapter.close()
        for name, publisher in self.outputs.items():
            if name == "diagnostics":
                self.destroy_publisher(publisher)
            else:
                self.destroy_lifecycle_publisher(publisher)
        self.outputs = {}
        logging.getLogger("plr_edge").removeHandler(self.log_handler)


class ToRos(logging.Handler):
    """Hands log records to a logger of rclpy, which allows each line of code one severity."""

    def __init__(self, logger):
        super().__init__()
        self.logger = logger

    def emit(self, record):
        """Log one record."""
        text = self.format(record)
        if record.levelno >= logging.CRITICAL:
            self.logger.fatal(text)
        elif record.levelno >= logging.ERROR:
            self.logger.error(text)
        elif record.levelno >= logging.WARNING:
            self.logger.warning(text)
        elif record.levelno >= logging.INFO:
            self.logger.info(text)
        else:
            self.logger.debug(text)


def main(args=None):
    """Spin until the context is shut down; returns 1 if the robot ended by itself."""
    rclpy.init(args=args)
    node = PlrEdgeNode()
    executor = MultiThreadedExecutor(num_threads=3)  # images, requests, everything else
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown(timeout_sec=2.0)
        node.free()
        node.destroy_node()
        rclpy.try_shutdown()
    return 1 if node.failure else 0
