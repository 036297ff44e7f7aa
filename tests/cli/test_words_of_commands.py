"""What commands print: one line for a mistake, facts for people, and silence for a closed pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from plr_edge.cli import _COMMANDS, cli
from plr_edge.cli.facts import print_facts


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "bundle"],
        ["run", "bundle", "none", "--state", "s", "--wrong"],
        ["run", "bundle", "none", "extra", "--state", "s"],
        ["export", "--precision", "int4"],
        ["adapt", "bundle", "demo", "--state", "s", "--threads"],
        ["undo", "bundle", "--state", "s", "--since", "yesterday"],
        ["nothing"],
        ["--wrong"],
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_one_line_that_says_where_help_is(plr_edge, arguments):
    result = plr_edge(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ") and "--help` explains the options" in line


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["adapt", "b", "demo", "--state", ""], "--state"),
        (["adapt", "b", "demo", "--state="], "--state"),
        (["run", "b", "none", "--state", "s", "--latent-memory", ""], "--latent-memory"),
        (["run", "b", "none", "--state", "s", "--cpus="], "--cpus"),
        (["run", "b", "none", "--state", "s", "--memory", ""], "--memory"),
        (["export", "-o", ""], "-o"),
        (["undo", "b", "--state", "s", "--source", ""], "--source"),
        (["predict", "", "demo", "--state", "s"], "an argument"),
        (["quarantine", ""], "an argument"),
    ],
)
def test_an_empty_value_does_not_count_as_none(plr_edge, tmp_path, monkeypatch, arguments, name):
    monkeypatch.chdir(tmp_path)
    result = plr_edge(*arguments)
    assert result.exit_code == 2 and f"{name} is empty" in result.stderr
    assert len(result.stderr.splitlines()) == 1 and list(tmp_path.iterdir()) == []


def test_an_old_name_that_is_given_twice_warns_once(plr_edge, tmp_path):
    state = ("--state", str(tmp_path / "s"))
    result = plr_edge("run", "b", "none", *state, "--memory", "1GB", "--memory=much")
    assert result.stderr.count("is now called") == 1 and "size is 'much'" in result.stderr


@pytest.mark.parametrize("listen", ["foo", "foo:", "unix:", ":80", "a:b", "a:99999", "a:-1"])
def test_a_malformed_address_is_called_so_by_every_command(plr_edge, tmp_path, listen):
    (tmp_path / "token").write_text("x")
    for command in (["status"], ["watch"], ["teach", "x", "--state", str(tmp_path)],
                    ["run", "b", "none", "--state", str(tmp_path / "s")]):  # fmt: skip
        result = plr_edge(*command, "--listen", listen)
        assert result.exit_code == 2 and "write HOST:PORT or unix:PATH" in result.stderr


def test_a_state_without_a_token_is_named_and_not_the_address(plr_edge, tmp_path):
    (tmp_path / "folder" / "token").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    for name in ("nostate", "folder", "empty"):
        says = f"{name}/token is not a plain file" if name == "folder" else f"{name} has no token"
        result = plr_edge("teach", "x", "--state", str(tmp_path / name), "--listen", "127.0.0.1:1")
        assert result.exit_code == 2 and says in result.stderr
        assert name == "folder" or "--state" in result.stderr
        assert "127.0.0.1" not in result.stderr
    (tmp_path / "empty" / "token").touch(0o600)
    (tmp_path / "empty" / "token").write_text("x" * 32)
    result = plr_edge("teach", "x", "--state", str(tmp_path / "empty"), "--listen", "127.0.0.1:1")
    assert "nothing answers at 127.0.0.1:1" in result.stderr


HEALTH = {
    "state": "serving", "reason": "", "version": 3, "classes": 2, "taught": 1234, "frames": 98765,
    "unknown_ratio": 0.3382352941176471, "unknown_per_hour": None, "asked": [],
    "frames_per_s": 29.97, "latency_ms_p50": 3.14159, "power_w": 5.4321, "energy_j": 12345.678,
    "rss_bytes": 123_456_789, "state_bytes": 512,
    "canary": {"passed": True, "reason": "none lost", "n": 36, "before": 0.9, "after": 0.95},
    "trainer": {"alive": True, "deaths": 0, "steps_per_level": [1, 2, 40], "latents_bytes": 10**7},
}  # fmt: skip


def test_facts_are_printed_for_people(capsys):
    print_facts(HEALTH)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for line in (
        "taught  1,234", "unknown  33.8%", "unknown, change per hour  absent", "asked  none",
        "frames per second  30", "latency, median  3.14 ms", "power  5.43 W", "energy  12,346 J",
        "rss  123.5 MB", "state  512 bytes",
        "held-out labels  passed True, reason none lost, number 36, before 90.0%, after 95.0%",
        "trainer  alive True, deaths 0, steps per level 1, 2, 40, latents 10.0 MB",
    ):  # fmt: skip
        assert line in lines, line
    assert not any("canary" in line or "_" in line or "{" in line for line in lines)


def test_inspect_prints_no_field_names(plr_edge, bundle_path, tmp_path):
    state = str(tmp_path / "s")
    few = ("demo", "--limit-per-class", "2", "--train-ratio", "0")
    assert plr_edge("adapt", str(bundle_path), *few, "--state", state).exit_code == 0
    for path in (str(bundle_path), state):
        text = plr_edge("inspect", path).stdout
        assert "{" not in text and "canary" not in text
        assert json.loads(plr_edge("inspect", path, "--json").stdout)["whole"] is True


def test_a_closed_pipe_ends_a_command_like_other_tools(bundle_path, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    for arguments in (["schedule", str(bundle_path)], ["--help"], ["run", "--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "plr_edge", *arguments], stdout=writer, text=True,
            stderr=subprocess.PIPE, env=environment, timeout=120,
        )  # fmt: skip
        os.close(writer)
        assert (done.returncode, done.stderr) == (-signal.SIGPIPE, ""), arguments


def test_no_help_says_the_same_twice():
    for name in _COMMANDS:
        for option in cli.get_command(click.Context(cli), name).params:
            text = (getattr(option, "help", "") or "").lower()
            assert "repeat" not in text and "several times" not in text, (name, option.name)
