"""Units, settings and udev rule of deploy/: what they run exists, what they promise is there."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from plr_edge.cli import cli
from plr_edge.meters.rapl import UDEV_RULE

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
RUNTIME = DEPLOY / "plr-edge.service"


def settings_of(unit):
    """Return each key's values, of all sections."""
    found = {}
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def environment():
    """Return what /etc/default/plr-edge holds after installation."""
    lines = (DEPLOY / "plr-edge.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def expanded(command, values):
    """Split a command as systemd does: ${NAME} is one argument, $NAME as many as it has words."""
    arguments = []
    for word in shlex.split(command):
        if word[0] == "$" and word[1] != "{":
            arguments += values[word[1:]].split()
        else:
            arguments.append(re.sub(r"\$\{(\w+)\}", lambda m: values[m[1]], word))
    return arguments


@pytest.mark.parametrize("unit", UNITS, ids=lambda file: file.name)
@pytest.mark.parametrize("engine", ["onnx", "tensorrt"])
def test_commands_and_options_of_units_are_taken_by_the_command_line(unit, engine):
    (line,) = settings_of(unit)["ExecStart"]
    values = {**environment(), "PLR_EDGE_ENGINE": engine}
    program, name, *arguments = expanded(line, values)
    assert program == "/opt/plr-edge/bin/plr-edge"
    command = cli.get_command(click.Context(cli), name)
    parameters = command.make_context(name, arguments).params  # raises for what it does not know
    assert str(parameters["bundle"]) == values["PLR_EDGE_BUNDLE"]
    if name == "run":
        assert (parameters["engine"], parameters["board"]) == (engine, "auto")


@pytest.mark.parametrize("unit", UNITS, ids=lambda file: file.name)
def test_units_are_valid(unit, tool, tmp_path):
    """Their program is not installed here, so another stands in for it."""
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/plr-edge/bin/plr-edge", "/bin/true"))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(copy)], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if unit.name in line or str(copy) in line]
    assert not ours, ours


def test_a_unit_with_a_mistake_is_found(tool, tmp_path):
    unit = tmp_path / "plr-edge.service"
    unit.write_text(RUNTIME.read_text().replace("WatchdogSec=10", "WatchdogSek=10"))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert "WatchdogSek" in done.stderr


def test_the_runtime_is_watched_and_hardened_but_keeps_its_devices():
    keys = settings_of(RUNTIME)
    wanted = {
        "Type": "notify", "NotifyAccess": "main", "Restart": "on-failure", "ProtectHome": "yes",
        "ProtectSystem": "strict", "NoNewPrivileges": "yes", "PrivateTmp": "yes",
        "StateDirectory": "plr-edge", "SupplementaryGroups": "video render",
        "OOMPolicy": "continue",
    }  # fmt: skip
    assert wanted.items() <= {key: values[0] for key, values in keys.items()}.items()
    assert {"WatchdogSec", "MemoryHigh", "MemoryMax"} <= set(keys)
    assert int(keys["OOMScoreAdjust"][0]) < 0  # the trainer sets its own to 800
    assert not {"PrivateDevices", "MemoryDenyWriteExecute", "DevicePolicy"} & set(keys)


def in_words(unit):
    lines = unit.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_one_of_several_robots_has_the_unit_of_one_with_names_of_its_own():
    one = "\n".join(in_words(RUNTIME))
    own = {
        "plr-edge: perception": "plr-edge %i: perception",
        "Wants=plr-edge-engine.service\n": "",
        " plr-edge-engine.service": "",
        "StateDirectory=plr-edge\n": "StateDirectory=plr-edge-%i\n",
        "/etc/default/plr-edge\n": "/etc/default/plr-edge-%i\n",
        "/var/lib/plr-edge/": "/var/lib/plr-edge-%i/",
    }
    for old, new in own.items():
        assert old in one
        one = one.replace(old, new)
    assert in_words(DEPLOY / "plr-edge@.service") == one.splitlines()


@pytest.mark.parametrize("unit", UNITS, ids=lambda file: file.name)
def test_units_expose_little(unit, tool, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/plr-edge/bin/plr-edge", "/bin/true"))
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", str(copy)],
        capture_output=True, text=True,
    )  # fmt: skip
    if "Overall exposure" not in done.stdout:
        pytest.skip(f"this systemd-analyze knows no --offline: {done.stderr.strip()[:80]}")
    exposure = float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)[1])
    assert exposure <= 3.0


def test_each_protection_that_is_left_out_has_its_reason_in_the_unit():
    text = RUNTIME.read_text()
    comments = " ".join(line for line in text.splitlines() if line.startswith("#"))
    keys = settings_of(RUNTIME)
    for name in ("PrivateDevices", "DeviceAllow", "ProtectClock", "MemoryDenyWriteExecute",
                 "PrivateNetwork", "IPAddressDeny", "PrivateUsers", "ProcSubset"):  # fmt: skip
        assert (name in comments) != (name in keys), name


def test_the_plan_is_built_before_the_robot_starts_and_as_the_same_user():
    engine, runtime = settings_of(DEPLOY / "plr-edge-engine.service"), settings_of(RUNTIME)
    assert engine["Type"] == ["oneshot"] and engine["Before"] == ["plr-edge.service"]
    assert "plr-edge-engine.service" in runtime["Wants"]
    assert "plr-edge-engine.service" in runtime["After"][0].split()
    for key in ("User", "Group", "CacheDirectory", "Environment", "EnvironmentFile"):
        assert engine[key] == runtime[key], key
    assert "WatchdogSec" not in engine
    minutes = re.fullmatch(r"(\d+)min", engine["TimeoutStartSec"][0])
    assert int(minutes[1]) >= 15  # builds of five minutes are reported from small boards


def test_the_udev_rule_is_the_one_that_the_meter_asks_for():
    lines = (DEPLOY / "60-plr-edge.rules").read_text().splitlines()
    (rule,) = [line for line in lines if line and not line.startswith("#")]
    assert rule == UDEV_RULE.replace("chgrp power", "chgrp plr-edge").replace(
        'ACTION=="add"', 'ACTION=="add|change"'
    )
    keys = re.findall(r'(?:^|, )([A-Z]+)(==|\+=)"[^"]*"', rule)
    assert keys == [("SUBSYSTEM", "=="), ("ACTION", "=="), ("RUN", "+="), ("RUN", "+=")]


@pytest.mark.parametrize("name", ["plr-edge.service", "plr-edge@.service"])
def test_a_stop_under_load_has_the_time_to_save(name):
    assert int(settings_of(DEPLOY / name)["TimeoutStopSec"][0]) >= 20


@pytest.mark.parametrize("name", ["plr-edge.service", "plr-edge@.service"])
def test_what_may_pass_is_started_again_without_a_limit_and_what_cannot_is_not(name):
    keys = settings_of(DEPLOY / name)
    assert keys["StartLimitIntervalSec"] == ["0"] and "StartLimitBurst" not in keys
    assert keys["RestartPreventExitStatus"] == ["2"] and keys["RestartForceExitStatus"] == ["75"]
