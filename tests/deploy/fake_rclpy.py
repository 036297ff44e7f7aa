"""As much of rclpy as the node uses: names and signatures are those of Humble and of Jazzy.

`test_ros_surface.py` compares them with rclpy's own source where that is at hand.
"""

import enum
import inspect
import logging
import sys
import threading
import time
from types import ModuleType
from typing import NamedTuple

from tests.deploy.fake_messages import Trigger, from_bag, message_class, over_the_wire

# what a node of rclpy calls its own parts, in Humble or Jazzy: a subclass must not overwrite them
PRIVATE = frozenset(
    "_allow_undeclared_parameters _callbacks _clients _clock _context _default_callback_group "
    "_descriptors _enabled _guards _logger _logger_service _managed_entities "
    "_on_set_parameters_callbacks _parameter_event_publisher _parameter_overrides "
    "_parameter_service _parameters _parameters_callbacks _post_set_parameters_callbacks "
    "_pre_set_parameters_callbacks _publishers _rate_group _service_change_state "
    "_service_get_available_states _service_get_available_transitions _service_get_state "
    "_service_get_transition_graph _services _state_machine _subscriptions _time_source _timers "
    "_type_description_service".split()
)


class World:
    """What surrounds a node: who subscribes, what was published and logged."""

    def __init__(self):
        self.down = threading.Event()
        self.overrides = {}  # of parameters
        self.subscriptions, self.publishers, self.services = [], [], {}
        self.published = []  # (topic, rosbags message)
        self.logged = []  # (severity, text)
        self.heard = threading.Condition()

    def deliver(self, topic, message):
        """Give a rosbags message to whoever subscribed; returns to how many."""
        found = [s for s in self.subscriptions if s.topic == topic]
        for subscription in found:
            delivered = from_bag(message)
            assert isinstance(delivered, subscription.msg_type)
            subscription.callback(delivered)
        return len(found)

    def call(self, name):
        """Call a Trigger service; returns success and message."""
        service = self.services[name]
        response = service.callback(Trigger.Request(), Trigger.Response())
        return response.success, response.message

    def of(self, topic):
        """Return what was published there."""
        return [message for at, message in self.published if at == topic]

    def wait_for(self, condition, timeout=240):
        """Wait until a condition holds that messages bring about; returns what it returns."""
        end = time.monotonic() + timeout
        with self.heard:
            while not (value := condition()):
                assert time.monotonic() < end, (condition, self.logged[-5:])
                self.heard.wait(0.1)
            return value


WORLD = World()


# rclpy


def init(*, args=None, context=None, domain_id=None, signal_handler_options=None):
    WORLD.down.clear()


def ok(*, context=None):
    return not WORLD.down.is_set()


def try_shutdown(*, context=None):
    WORLD.down.set()


# rclpy.callback_groups


class CallbackGroup:
    pass


class MutuallyExclusiveCallbackGroup(CallbackGroup):
    def __init__(self):
        super().__init__()


# rclpy.qos


class HistoryPolicy(enum.IntEnum):
    KEEP_LAST = 1


class ReliabilityPolicy(enum.IntEnum):
    RELIABLE = 1
    BEST_EFFORT = 2


class DurabilityPolicy(enum.IntEnum):
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


class QoSProfile:
    __slots__ = ("depth", "durability", "history", "reliability")

    def __init__(self, **kwargs):
        self.history = HistoryPolicy.KEEP_LAST
        self.reliability = ReliabilityPolicy.RELIABLE
        self.durability = DurabilityPolicy.VOLATILE
        assert "depth" in kwargs  # else rclpy wants a history
        for name, value in kwargs.items():
            setattr(self, name, value)


# rclpy.node


class RcutilsLogger:
    def __init__(self, name=""):
        self.name = name
        self.severities = {}  # of places in the code

    def _log(self, severity, message):
        assert isinstance(message, str)
        frame = inspect.currentframe().f_back.f_back
        place = (frame.f_code.co_filename, frame.f_lineno)
        if self.severities.setdefault(place, severity) != severity:
            raise ValueError("Logger severity cannot be changed between calls.")
        WORLD.logged.append((severity, message))

    def debug(self, message, **kwargs):
        self._log("debug", message)

    def info(self, message, **kwargs):
        self._log("info", message)

    def warning(self, message, **kwargs):
        self._log("warning", message)

    def error(self, message, **kwargs):
        self._log("error", message)

    def fatal(self, message, **kwargs):
        self._log("fatal", message)


class Time:
    def __init__(self, nanoseconds):
        self.nanoseconds = nanoseconds


class Clock:
    def now(self):
        return Time(time.time_ns())


class Parameter:
    def __init__(self, name, type_=None, value=None):
        if isinstance(value, list) and not value:
            raise TypeError("an empty list would be a BYTE_ARRAY")
        if not isinstance(value, (bool, int, float, str, list)):
            raise TypeError(f"no parameter can hold {value!r}")
        self.name, self.value = name, value


class Publisher:
    def __init__(self, msg_type, topic, qos_profile):
        self.msg_type, self.topic, self.qos_profile = msg_type, topic, qos_profile

    def publish(self, msg):
        if self not in WORLD.publishers or WORLD.down.is_set():
            raise RuntimeError("publisher's handle is invalid")
        if not isinstance(msg, self.msg_type):
            raise TypeError(f"Expected {self.msg_type}, got {type(msg)}")
        with WORLD.heard:
            WORLD.published.append((self.topic, over_the_wire(msg)))
            WORLD.heard.notify_all()


class _Heard:
    def __init__(self, kind, name, callback, qos_profile, callback_group):
        assert callback_group is None or isinstance(callback_group, CallbackGroup)
        self.msg_type, self.topic, self.callback = kind, name, callback
        self.qos_profile, self.callback_group = qos_profile, callback_group


class Node:
    def __init__(
        self, node_name, *, context=None, cli_args=None, namespace=None, use_global_arguments=True,
        enable_rosout=True, start_parameter_services=True, parameter_overrides=None,
        allow_undeclared_parameters=False, automatically_declare_parameters_from_overrides=False,
    ):  # fmt: skip
        given = {p.name: p.value for p in parameter_overrides or ()}
        self.fake = {
            "name": node_name, "given": {**WORLD.overrides, **given}, "parameters": {},
            "logger": RcutilsLogger(node_name), "destroyed": False,
        }  # fmt: skip

    def __setattr__(self, name, value):
        assert name not in PRIVATE, f"{name} belongs to rclpy"
        object.__setattr__(self, name, value)

    def get_logger(self):
        return self.fake["logger"]

    def get_clock(self):
        return Clock()

    def declare_parameter(self, name, value=None, descriptor=None, ignore_override=False):
        assert name not in self.fake["parameters"], f"{name} is declared twice"
        default = Parameter(name, value=value)
        given = self.fake["given"].get(name, value)
        if type(given) is not type(value):
            raise TypeError(f"Trying to set parameter {name} to {given!r} of another type")
        default.value = given
        self.fake["parameters"][name] = default
        return default

    def get_parameter(self, name):
        return self.fake["parameters"][name]

    def _full(self, name):
        if name.startswith("~/"):
            return f"/{self.fake['name']}/{name[2:]}"
        return name if name.startswith("/") else f"/{name}"

    def create_publisher(
        self, msg_type, topic, qos_profile, *, callback_group=None, event_callbacks=None,
        qos_overriding_options=None, publisher_class=Publisher,
    ):  # fmt: skip
        made = publisher_class(msg_type, self._full(topic), qos_profile)
        WORLD.publishers.append(made)
        return made

    def create_subscription(
        self, msg_type, topic, callback, qos_profile, *, callback_group=None, event_callbacks=None,
        qos_overriding_options=None, raw=False,
    ):  # fmt: skip
        made = _Heard(msg_type, self._full(topic), callback, qos_profile, callback_group)
        WORLD.subscriptions.append(made)
        return made

    def create_service(
        self, srv_type, srv_name, callback, *, qos_profile=None, callback_group=None
    ):
        made = _Heard(srv_type, self._full(srv_name), callback, qos_profile, callback_group)
        assert made.topic not in WORLD.services
        WORLD.services[made.topic] = made
        return made

    def destroy_publisher(self, publisher):
        WORLD.publishers.remove(publisher)
        return True

    def destroy_subscription(self, subscription):
        WORLD.subscriptions.remove(subscription)
        return True

    def destroy_service(self, service):
        del WORLD.services[service.topic]
        return True

    def destroy_node(self):
        self.fake["destroyed"] = True


# rclpy.lifecycle


class TransitionCallbackReturn(enum.Enum):
    SUCCESS = 0
    FAILURE = 1
    ERROR = 2


class LifecycleState(NamedTuple):
    label: str
    state_id: int


class LifecyclePublisher(Publisher):
    enabled = False

    def publish(self, msg):
        assert isinstance(msg, self.msg_type)
        if self.enabled:
            super().publish(msg)


_TRANSITIONS = {  # callback: from, to on success, to on failure
    "configure": ("unconfigured", "inactive", "unconfigured"),
    "activate": ("inactive", "active", "inactive"),
    "deactivate": ("active", "inactive", "active"),
    "cleanup": ("inactive", "unconfigured", "inactive"),
    "shutdown": (None, "finalized", "finalized"),
}


class LifecycleNode(Node):
    def __init__(self, node_name, *, enable_communication_interface=True, **kwargs):
        super().__init__(node_name, **kwargs)
        self.fake |= {"state": "unconfigured", "managed": []}

    def _managed(self, enabled):
        for publisher in self.fake["managed"]:
            publisher.enabled = enabled
        return TransitionCallbackReturn.SUCCESS

    def on_configure(self, state):
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state):
        return self._managed(True)

    def on_deactivate(self, state):
        return self._managed(False)

    def on_cleanup(self, state):
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state):
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state):
        return TransitionCallbackReturn.SUCCESS

    def create_lifecycle_publisher(self, *args, **kwargs):
        made = Node.create_publisher(self, *args, **kwargs, publisher_class=LifecyclePublisher)
        self.fake["managed"].append(made)
        return made

    def destroy_lifecycle_publisher(self, publisher):
        self.fake["managed"].remove(publisher)
        return Node.destroy_publisher(self, publisher)

    def trigger_configure(self):
        return self._change("configure")

    def trigger_activate(self):
        return self._change("activate")

    def trigger_deactivate(self):
        return self._change("deactivate")

    def trigger_cleanup(self):
        return self._change("cleanup")

    def trigger_shutdown(self):
        return self._change("shutdown")

    def _change(self, name):
        start, good, bad = _TRANSITIONS[name]
        assert start in (None, self.fake["state"]), f"no {name} from {self.fake['state']}"
        state = LifecycleState(label=self.fake["state"], state_id=0)
        result = self._called(f"on_{name}", state)
        if result == TransitionCallbackReturn.ERROR:
            result_of_error = self._called("on_error", state)
            good_end = result_of_error == TransitionCallbackReturn.SUCCESS
            self.fake["state"] = "unconfigured" if good_end else "finalized"
        else:
            self.fake["state"] = good if result == TransitionCallbackReturn.SUCCESS else bad
        return result

    def _called(self, name, state):
        try:
            result = getattr(self, name)(state)
            assert isinstance(result, TransitionCallbackReturn), (name, result)
        except Exception:  # rclpy says nothing either
            return TransitionCallbackReturn.ERROR
        return result


# rclpy.executors


class ExternalShutdownException(Exception):
    pass


class MultiThreadedExecutor:
    def __init__(self, num_threads=None, *, context=None):
        self.nodes = []

    def add_node(self, node):
        self.nodes.append(node)
        return True

    def spin(self):
        WORLD.down.wait()
        raise ExternalShutdownException

    def shutdown(self, timeout_sec=None):
        return True


MODULES = {
    "rclpy": (init, ok, try_shutdown),
    "rclpy.callback_groups": (MutuallyExclusiveCallbackGroup,),
    "rclpy.executors": (ExternalShutdownException, MultiThreadedExecutor),
    "rclpy.lifecycle": (LifecycleNode, TransitionCallbackReturn),
    "rclpy.qos": (DurabilityPolicy, QoSProfile, ReliabilityPolicy),
}
MESSAGES = {
    "builtin_interfaces": ("Time",),
    "diagnostic_msgs": ("DiagnosticArray", "DiagnosticStatus", "KeyValue"),
    "sensor_msgs": ("CompressedImage", "Image"),
    "std_msgs": ("Header",),
    "vision_msgs": ("Classification", "LabelInfo", "ObjectHypothesis", "VisionClass"),
}


def install(monkeypatch):
    """Let these modules be imported, in a new world; returns it."""
    global WORLD
    WORLD = World()
    names = {name: {thing.__name__: thing for thing in things} for name, things in MODULES.items()}
    for package, kinds in MESSAGES.items():
        names[package] = {}
        names[f"{package}.msg"] = {k: message_class(f"{package}/msg/{k}") for k in kinds}
    names |= {"std_srvs": {}, "std_srvs.srv": {"Trigger": Trigger}}
    for name, things in names.items():
        module = ModuleType(name)
        module.__dict__.update(things)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(logging.getLogger("plr_edge"), "handlers", [])
    return WORLD
