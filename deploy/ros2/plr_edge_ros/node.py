"""The lifecycle node: rclpy around `plr_edge.RosAdapter`, which has the logic.

`configure` loads bundle, state and engines. `activate` subscribes and learns. `deactivate` stops
learning and writes the state. `cleanup` frees everything.
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
        f"{sys.executable} cannot import plr-edge ({error}); activate the virtual environment that "
        "has it, or add its site-packages to PYTHONPATH"
    ) from None

MESSAGES = SimpleNamespace(
    Time=Time, Header=Header, Classification=Classification, ObjectHypothesis=ObjectHypothesis,
    LabelInfo=LabelInfo, VisionClass=VisionClass, DiagnosticArray=DiagnosticArray,
    DiagnosticStatus=DiagnosticStatus, KeyValue=KeyValue,
)  # fmt: skip
IMAGES = {"raw": Image, "compressed": CompressedImage}
# Texts as `plr-edge run` takes them. An empty text means "not given".
OPTIONS = (
    "board",
    "power",
    "duty",
    "deadline",
    "max_temp",
    "memory_limit",
    "cpus",
    "schedule",
    "latent_memory",
)
RENAMED = {"memory": "memory_limit", "latents": "latent_memory"}  # still accepted, with a warning
PARAMETERS = {
    "model_file_path": "", "state_path": "", "image_transport": "raw", "engine": "onnx",
    "providers": "", "force_engine_update": False, "max_workspace_size": 0, "max_batch_size": 0,
    "verbose": False, "threads": 1, "trainer_threads": 1, "bits": 0, "pool": 0, "trust": "",
    "allow_code": False,
    **dict.fromkeys(OPTIONS, ""),
}  # fmt: skip
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
EACH = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
)


def logged(transition):
    """Log the exception of a transition: rclpy returns ERROR without logging it."""

    @functools.wraps(transition)
    def wrapped(self, state):
        try:
            return transition(self, state)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR

    return wrapped


class PlrEdgeNode(LifecycleNode):
    """Classifies images, and learns from labels."""

    def __init__(self, **kwargs):
        """Declare the parameters. Everything else waits for `on_configure`."""
        super().__init__("plr_edge", **kwargs)
        for name, default in PARAMETERS.items():
            self.declare_parameter(name, default)
        for old in RENAMED:
            self.declare_parameter(old, "")
        self.adapter, self.failure = None, ""
        self.outputs, self.inputs, self.requests = {}, [], []  # publishers, subscriptions, services
        self.for_images = MutuallyExclusiveCallbackGroup()
        self.for_requests = MutuallyExclusiveCallbackGroup()
        self.log_handler = ToRos(self.get_logger())

    @logged
    def on_configure(self, state):
        """Load bundle, state and engines. Building a TensorRT plan takes minutes."""
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

    @logged
    def on_activate(self, state):
        """Start to learn, and subscribe to images and labels."""
        result = super().on_activate(state)  # from here on publishers are active
        self.adapter.activate()
        message_type = IMAGES[self.value("image_transport")]
        self.inputs = [
            self.create_subscription(
                message_type, "image", self.adapter.image, NEWEST, callback_group=self.for_images
            ),
            self.create_subscription(Classification, "~/teach", self.adapter.teach, EACH),
        ]
        return result

    @logged
    def on_deactivate(self, state):
        """Unsubscribe, stop training, and write what was learned."""
        self.unsubscribe()
        done, message = self.adapter.deactivate()
        if done:
            self.get_logger().info(message)
        else:
            self.get_logger().error(message)
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state):
        """Write what was learned, and free engines, trainer and state."""
        self.free()
        return super().on_cleanup(state)

    @logged
    def on_shutdown(self, state):
        """Do as `on_cleanup`."""
        self.free()
        return super().on_shutdown(state)

    @logged
    def on_error(self, state):
        """Do as `on_cleanup`, so that the node can be configured again."""
        self.free()
        return super().on_error(state)

    def value(self, name):
        """Return a parameter's value."""
        return self.get_parameter(name).value

    def option(self, name):
        """Return a text of `OPTIONS`, also if it is given by its old name."""
        old = next((old for old, new in RENAMED.items() if new == name), None)
        if old is None or not self.value(old):
            return self.value(name)
        self.get_logger().warning(
            f"parameter {old} is now called {name}; the old name will be removed"
        )
        return self.value(name) or self.value(old)

    def check_parameters(self):
        """Check the parameters that the library does not check.

        Raises:
            PlrEdgeError: a parameter is missing or not allowed.
        """
        for name in ("model_file_path", "state_path"):
            if not self.value(name):
                raise PlrEdgeError(f"parameter {name} is not set; see config/plr_edge.yaml")
        if self.value("allow_code"):
            self.get_logger().warning(
                "parameter allow_code has no effect: the code of a network is not imported"
            )
        if self.value("image_transport") not in IMAGES:
            raise PlrEdgeError(
                f"image_transport is {self.value('image_transport')!r}; it must be one of "
                + ", ".join(IMAGES)
            )

    def make_outputs(self):
        """Create the publishers. All but the diagnostics are silent until `on_activate`."""
        self.outputs = {
            "classification": self.create_lifecycle_publisher(Classification, "classification", 10),
            "label_info": self.create_lifecycle_publisher(LabelInfo, "label_info", LATCHED),
            "taught": self.create_lifecycle_publisher(Classification, "~/taught", EACH),
            "diagnostics": self.create_publisher(DiagnosticArray, "/diagnostics", 10),
        }

    def open_adapter(self):
        """Load bundle, state and engines, and start the robot.

        Raises:
            PlrEdgeError: one of them cannot be used.
        """
        providers = [name.strip() for name in self.value("providers").split(",")]
        options = RobotOptions(
            engine=self.value("engine"),
            providers=tuple(name for name in providers if name),
            threads=self.value("threads"),
            trainer_threads=self.value("trainer_threads"),
            bits=self.value("bits") or None,
            pool=self.value("pool") or None,
            trust=Path(self.value("trust")) if self.value("trust") else None,
            **{name: self.option(name) or None for name in OPTIONS},
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
        """Publish a message unless ROS has been shut down."""
        if rclpy.ok():
            self.outputs[topic].publish(message)

    def serve(self, name, request, response):
        """Answer a std_srvs/Trigger."""
        adapter = self.adapter  # `None` if the node was cleaned up after the call was sent
        answer = adapter.serve(name) if adapter else (False, "the node is not configured")
        response.success, response.message = answer
        return response

    def end(self, reason):
        """End the process, so that launch starts it again."""
        if not rclpy.ok():  # already ending
            return
        self.failure = reason
        self.get_logger().fatal(f"ending: {reason}")
        rclpy.try_shutdown()

    def unsubscribe(self):
        """Destroy all subscriptions."""
        while self.inputs:
            self.destroy_subscription(self.inputs.pop())

    def free(self):
        """Release everything that `on_configure` and `on_activate` created. Idempotent."""
        self.unsubscribe()
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
    """Passes log records to a logger of rclpy, which allows one severity per line of code."""

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
    """Spin until the context is shut down. Returns 1 if the robot ended by itself."""
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
