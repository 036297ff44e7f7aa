"""The command `export` on a network that the test writes."""

import importlib
import sys

import pytest
import torch
from click.testing import CliRunner
from own_networks import HEAD

from plr_edge.cli import cli


@pytest.fixture
def run(tmp_path, monkeypatch, request):
    """Write a network, and return a function that runs a command on it."""
    monkeypatch.chdir(tmp_path)
    name = f"usernet_{abs(hash(request.node.name))}"

    def call(code, *arguments):
        (tmp_path / f"{name}.py").write_text(HEAD + code)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return CliRunner().invoke(
            cli, ["export", "--backbone", f"{name}:make", "-o", "b", *map(str, arguments)]
        )

    def made():
        torch.manual_seed(3)  # as the module does before it makes the first one
        return sys.modules[name].make().eval()

    call.made = made
    call.name = f"{name}:make"
    yield call
    sys.modules.pop(name, None)
    sys.path[:] = [one for one in sys.path if one != str(tmp_path)]
