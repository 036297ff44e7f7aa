"""Scripts and Dockerfiles: linted, and what they name exists."""

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from plr_edge.cli import cli

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "deploy").glob("*.sh"), *(ROOT / "export").glob("*.sh")])
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("Dockerfile.*"))


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda file: file.name)
def test_scripts_pass_shellcheck(script, tool):
    done = subprocess.run([tool("shellcheck"), str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_shellcheck_finds_a_mistake(tool, tmp_path):
    (tmp_path / "bad.sh").write_text("#!/bin/sh\nrm -rf $1/*\n")
    done = subprocess.run([tool("shellcheck"), str(tmp_path / "bad.sh")], capture_output=True)
    assert done.returncode == 1


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_dockerfiles_pass_hadolint(file, tool):
    done = subprocess.run(
        [tool("hadolint"), "--no-color", str(file)], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stdout, done.stdout


def test_hadolint_finds_a_mistake(tool, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM debian:12\nRUN cd /tmp\nCMD ls\n")
    done = subprocess.run(
        [tool("hadolint"), str(tmp_path / "Dockerfile")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "DL30" in done.stdout


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)
def test_dockerfiles_copy_what_the_wheel_needs_and_call_what_exists(file):
    text = file.read_text()
    copied = [word for line in re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
              for word in line.split()]  # fmt: skip
    assert all((ROOT / name).exists() for name in copied)
    needed = {"pyproject.toml", "README.md", "LICENSE", "plr_edge"}
    assert needed <= set(copied)
    usage = re.sub(r" \\\n# *", " ", text)
    calls = re.findall(rf"plr-edge:{file.suffix[1:]} ([a-z].*)$", usage, re.MULTILINE)
    calls += [" ".join(re.findall(r'"([^"]+)"', line)[1:]) for line in text.splitlines()
              if line.startswith("HEALTHCHECK")]  # fmt: skip
    assert {call.split()[0] for call in calls} == {"run", "build-engine", "status"}
    for call in calls:
        name, *arguments = shlex.split(call)
        cli.get_command(click.Context(cli), name).make_context(name, arguments)


def test_the_two_images_differ_in_their_base_and_their_words_alone():
    six, seven = (file.read_text().replace(file.suffix, "").splitlines() for file in DOCKERFILES)
    differing = [
        (a, b) for a, b in zip(six, seven, strict=True)
        if a.replace("jp6", "") != b.replace("jp7", "")
    ]  # fmt: skip
    assert all(a.startswith(("#", "ARG BASE=")) for a, _ in differing)
