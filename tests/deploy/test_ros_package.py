"""The ament_python package of deploy/ros2: what colcon and launch would find in it."""

import ast
import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROS2 = Path(__file__).parents[2] / "deploy" / "ros2"
NODE = ROS2 / "plr_edge_ros" / "node.py"
LAUNCH = ROS2 / "launch" / "plr_edge.launch.py"


@pytest.fixture
def setup_arguments(monkeypatch):
    """What setup.py hands to setuptools."""
    given = {}
    module = ModuleType("setuptools")
    module.setup = given.update
    monkeypatch.setitem(sys.modules, "setuptools", module)
    monkeypatch.chdir(ROS2)
    monkeypatch.setattr(module, "setup", lambda **arguments: given.update(arguments))
    runpy.run_path("setup.py")
    return given


def test_all_files_are_installed_where_ros_looks_for_them(setup_arguments):
    installed = dict(setup_arguments["data_files"])
    for files in installed.values():
        assert all((ROS2 / file).is_file() for file in files)
    assert installed["share/ament_index/resource_index/packages"] == ["resource/plr_edge_ros"]
    assert installed["share/plr_edge_ros"] == ["package.xml"]
    (script,) = setup_arguments["entry_points"]["console_scripts"]
    name, module, function = re.fullmatch(r"(\w+) = ([\w.]+):(\w+)", script).groups()
    source = (ROS2 / f"{module.replace('.', '/')}.py").read_text()
    assert any(
        isinstance(n, ast.FunctionDef) and n.name == function for n in ast.parse(source).body
    )
    assert f'executable="{name}"' in LAUNCH.read_text()
    assert "script_dir=$base/lib/plr_edge_ros" in (ROS2 / "setup.cfg").read_text()


def test_the_manifest_is_valid_and_names_what_is_imported(setup_arguments):
    package = pytest.importorskip(
        "catkin_pkg.package", reason="no catkin_pkg: pip install catkin-pkg"
    )
    manifest, warnings = package.parse_package_string((ROS2 / "package.xml").read_text()), []
    manifest.validate(warnings)
    assert not warnings
    assert (manifest.name, manifest.version) == (
        setup_arguments["name"],
        setup_arguments["version"],
    )
    assert manifest.get_build_type() == "ament_python"
    imported = {
        node.module.split(".")[0]
        for file in (NODE, LAUNCH)
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ImportFrom)
    }
    named = {depend.name for depend in manifest.exec_depends}
    assert imported - {"pathlib", "types", "plr_edge"} <= named


def test_the_file_of_parameters_has_all_of_them_and_their_defaults():
    yaml = pytest.importorskip("ruamel.yaml", reason="no ruamel.yaml: it comes with rosbags")
    text = (ROS2 / "config" / "plr_edge.yaml").read_text()
    given = yaml.YAML(typ="safe").load(text)["/**"]["ros__parameters"]
    tree = ast.parse(NODE.read_text())
    values = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    options = ast.literal_eval(values["OPTIONS"])
    parameters = values["PARAMETERS"]
    defaults = {
        key.value: ast.literal_eval(value)
        for key, value in zip(parameters.keys, parameters.values, strict=True)
        if key is not None
    } | dict.fromkeys(options, "")
    assert set(given) == set(defaults)
    places = {"model_file_path", "state_path"}
    for name in set(defaults) - places:
        assert (given[name], type(given[name])) == (defaults[name], type(defaults[name])), name
    readme = (ROS2 / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in defaults)


class _Recorded:
    """Whatever launch would be told."""

    def __init__(self, *given, **named):
        self.given, self.named = given, named


def test_launch_configures_the_node_then_activates_it_and_starts_it_again(monkeypatch):
    kinds = {}
    for node in ast.walk(ast.parse(LAUNCH.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module != "pathlib":
            module = ModuleType(node.module)
            for alias in node.names:
                kinds[alias.name] = type(alias.name, (_Recorded,), {})
                setattr(module, alias.name, kinds[alias.name])
            monkeypatch.setitem(sys.modules, node.module, module)
            monkeypatch.setitem(sys.modules, node.module.split(".")[0], ModuleType("parent"))
    monkeypatch.setitem(sys.modules, "launch", ModuleType("launch"))
    sys.modules["launch"].LaunchDescription = kinds["LaunchDescription"]
    transitions = kinds["Transition"]
    transitions.TRANSITION_CONFIGURE, transitions.TRANSITION_ACTIVATE = 1, 3
    kinds["matches_action"].__eq__ = lambda self, other: self.given == other.given

    module = runpy.run_path(str(LAUNCH))
    (entities,) = module["generate_launch_description"]().given
    (node,) = [e for e in entities if isinstance(e, kinds["LifecycleNode"])]
    assert node.named["respawn"] is True and node.named["package"] == "plr_edge_ros"
    handlers = [e.given[0] for e in entities if isinstance(e, kinds["RegisterEventHandler"])]
    started = next(h for h in handlers if isinstance(h, kinds["OnProcessStart"]))
    configured = next(h for h in handlers if isinstance(h, kinds["OnStateTransition"]))
    assert started.named["target_action"] is node
    assert configured.named["target_lifecycle_node"] is node
    assert configured.named["goal_state"] == "inactive"
    for handler, key, transition in [(started, "on_start", 1), (configured, "entities", 3)]:
        (action,) = handler.named[key]
        event = action.named["event"].named
        assert event["transition_id"] == transition
        assert event["lifecycle_node_matcher"].given == (node,)
    arguments = {
        e.given[0]: e.named["default_value"]
        for e in entities
        if isinstance(e, kinds["DeclareLaunchArgument"])
    }
    assert Path(arguments["params_file"]).is_file()
