"""Whatever the node, its launch file and the fake of rclpy name exists in ROS 2, Humble and Jazzy.

Compares with the sources of ROS where they are at hand: PLR_EDGE_ROS_SOURCES names a folder with
git checkouts of rclpy, launch, launch_ros, common_interfaces and vision_msgs.
"""

import ast
import inspect
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed: pip install 'plr-edge[ros]'")

from tests.deploy import fake_rclpy
from tests.deploy.fake_messages import STORE

SOURCES = os.environ.get("PLR_EDGE_ROS_SOURCES", "")
ROS2 = Path(__file__).parents[2] / "deploy" / "ros2"
NODE, LAUNCH = ROS2 / "plr_edge_ros" / "node.py", ROS2 / "launch" / "plr_edge.launch.py"
pytestmark = [
    pytest.mark.skipif(not SOURCES, reason="no sources of ROS: set PLR_EDGE_ROS_SOURCES"),
    pytest.mark.parametrize("distro", ["humble", "jazzy"]),
]
IN_RCLPY = {  # of the fake: where rclpy has it
    "RcutilsLogger": ["impl/rcutils_logger.py:RcutilsLogger"],
    "Node": ["node.py:Node"],
    "LifecycleNode": ["lifecycle/node.py:LifecycleNode", "lifecycle/node.py:LifecycleNodeMixin"],
    "MultiThreadedExecutor": ["executors.py:MultiThreadedExecutor", "executors.py:Executor"],
    "MutuallyExclusiveCallbackGroup": ["callback_groups.py:MutuallyExclusiveCallbackGroup"],
    "QoSProfile": ["qos.py:QoSProfile"],
}
FUNCTIONS = {"init": "__init__.py", "ok": "utilities.py", "try_shutdown": "utilities.py"}
ENUMS = ("HistoryPolicy", "ReliabilityPolicy", "DurabilityPolicy")


@cache
def source(repository, distro, path):
    """Return a file of a distribution, None where there is none."""
    for ref in (distro, f"origin/{distro}", "HEAD"):  # vision_msgs has one branch for both
        done = subprocess.run(
            ["git", "-C", f"{SOURCES}/{repository}", "show", f"{ref}:{path}"],
            capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode == 0:
            return done.stdout
    return None


def functions_of(text, class_name=None):
    body = ast.parse(text).body
    if class_name:
        body = next(n for n in body if isinstance(n, ast.ClassDef) and n.name == class_name).body
    return {n.name: n.args for n in body if isinstance(n, ast.FunctionDef)}


def assert_fits(ours, theirs, where):
    """Every argument of the fake's function is one of rclpy's, in the same place and kind."""
    parameters = list(inspect.signature(ours).parameters.values())
    positional = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    assert positional == [a.arg for a in theirs.args][: len(positional)], where
    keywords = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY}
    assert keywords <= {a.arg for a in theirs.kwonlyargs} or theirs.kwarg, where
    n_needed = len(
        [p for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and p.default is p.empty]
    )
    assert n_needed == len(theirs.args) - len(theirs.defaults), where


@pytest.mark.parametrize("name", IN_RCLPY)
def test_methods_of_the_fake_are_those_of_rclpy(distro, name):
    theirs = {}
    for place in reversed(IN_RCLPY[name]):
        path, _, class_name = place.partition(":")
        theirs |= functions_of(source("rclpy", distro, f"rclpy/rclpy/{path}"), class_name)
    own = vars(getattr(fake_rclpy, name))
    ours = {
        n: f for n, f in own.items() if inspect.isfunction(f) and (n[0] != "_" or n == "__init__")
    }
    assert ours
    for method, function in ours.items():
        assert method in theirs, f"{name}.{method}"
        assert_fits(function, theirs[method], f"{name}.{method}")


def test_functions_and_enums_of_the_fake_are_those_of_rclpy(distro):
    for name, path in FUNCTIONS.items():
        theirs = functions_of(source("rclpy", distro, f"rclpy/rclpy/{path}"))
        assert_fits(getattr(fake_rclpy, name), theirs[name], name)
    qos = source("rclpy", distro, "rclpy/rclpy/qos.py")
    for name in ENUMS:
        body = qos[qos.index(f"class {name}") :]
        for member in getattr(fake_rclpy, name):
            assert re.search(rf"^    {member.name} = {member.value}$", body, re.MULTILINE), member


def test_no_attribute_of_the_node_hides_one_of_rclpy(distro):
    text = source("rclpy", distro, "rclpy/rclpy/node.py")
    text += source("rclpy", distro, "rclpy/rclpy/lifecycle/node.py")
    theirs = set(re.findall(r"self\.(_[a-z]\w*)(?:: [^=\n]+)? = ", text))
    assert theirs <= fake_rclpy.PRIVATE
    own = {
        n.attr for n in ast.walk(ast.parse(NODE.read_text()))
        if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
    }  # fmt: skip
    methods = set(functions_of(NODE.read_text(), "PlrEdgeNode"))
    public = set(re.findall(r"^    def (\w+)\(", text, re.MULTILINE))
    callbacks = {f"on_{n}" for n in fake_rclpy._TRANSITIONS} | {"on_error", "__init__"}
    assert not (own | methods - callbacks) & (public | theirs)


@pytest.mark.parametrize("file", [NODE, LAUNCH], ids=lambda file: file.name)
def test_what_is_imported_from_ros_is_there(distro, file):
    for module, names in imports_of(file):
        package, *rest = module.split(".")
        if rest and rest[0] in ("msg", "srv"):
            for name in names:
                assert message_source(package, rest[0], name, distro), f"{module}.{name}"
            continue
        if package not in ("rclpy", "launch", "launch_ros"):
            continue
        path = "/".join([package, package, *rest])
        text = source(package, distro, f"{path}.py") or source(
            package, distro, f"{path}/__init__.py"
        )
        for name in names:
            assert re.search(rf"\b{name}\b", text), f"{module}.{name}"


def imports_of(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module, [alias.name for alias in node.names]


def message_source(package, kind, name, distro):
    if package == "vision_msgs":
        return source("vision_msgs", distro, f"vision_msgs/{kind}/{name}.{kind}")
    if package in ("builtin_interfaces", "lifecycle_msgs"):  # of rcl_interfaces
        return (package, name) in (("builtin_interfaces", "Time"), ("lifecycle_msgs", "Transition"))
    return source("common_interfaces", distro, f"{package}/{kind}/{name}.{kind}")


def test_definitions_that_the_tests_use_are_those_of_ros(distro):
    for package, kinds in fake_rclpy.MESSAGES.items():
        for name in kinds if package != "builtin_interfaces" else ():
            fields = re.findall(
                r"^(\S+) +([a-z]\w*)\s*(?:#.*)?$", message_source(package, "msg", name, distro),
                re.MULTILINE,
            )  # fmt: skip
            _, ours = STORE.fielddefs[f"{package}/msg/{name}"]
            assert [field for _, field in fields] == [field for field, _ in ours], name
            for (kind, _), (_, (_, inner)) in zip(fields, ours, strict=True):
                bare = kind.replace("[]", "").rpartition("/")[2]
                assert bare in str(inner), (name, kind, inner)


def test_keywords_of_the_launch_file_are_known_to_launch(distro):
    files = {
        "launch_ros": (
            "actions/lifecycle_node", "actions/node", "event_handlers/on_state_transition",
            "events/lifecycle/change_state",
        ),
        "launch": (
            "actions/execute_local", "actions/declare_launch_argument", "actions/emit_event",
            "event_handlers/on_process_start",
        ),
    }  # fmt: skip
    known = set()
    for package, paths in files.items():
        for path in paths:
            text = source(package, distro, f"{package}/{package}/{path}.py")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                    known |= {a.arg for a in [*node.args.args, *node.args.kwonlyargs]}
    used = {
        keyword.arg for node in ast.walk(ast.parse(LAUNCH.read_text()))
        if isinstance(node, ast.Call) for keyword in node.keywords
    }  # fmt: skip
    assert used <= known
