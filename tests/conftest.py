"""What several tests share: one exported bundle, and frames of the embedded stream."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the embedded MobileNetV2 at 96 pixels, exported by the command line."""
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    result = run_cli("export", "--input-size", "96", "-o", str(path))
    assert result.exit_code == 0, result.output
    return path


@pytest.fixture(scope="session")
def demo_frames():
    """Twelve training frames of each of six embedded objects, one object after another."""
    from plr_edge.stream import open_stream

    frames = list(open_stream("demo", limit_per_class=12))
    classes = sorted({frame.label for frame in frames})[::2]
    return [frame for frame in frames if frame.label in classes]


def run_cli(*arguments: str, input: str | None = None) -> Result:
    """Run `plr-edge` in this process."""
    from plr_edge.cli import cli

    return CliRunner().invoke(cli, list(arguments), input=input)


@pytest.fixture(scope="session")
def plr_edge():
    """The command line as a function."""
    return run_cli


@pytest.fixture
def quick_path():
    """A folder in memory, where there is one: for what does not test a disk, but syncs a lot."""
    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        yield Path(folder)


@pytest.fixture
def fake_board(tmp_path: Path):
    """Make the tree of a board by its name; see `fake_boards`."""
    from fake_boards import make_board

    return lambda name: make_board(name, tmp_path / name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let a test that is marked `alone` wait until no other runs in any worker, and hold them."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
    path = os.path.join(tempfile.gettempdir(), f"plr-edge-tests-{run}")
    with open(f"{path}.door", "w") as door, open(f"{path}.room", "w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)  # so that one who wants to be alone is not passed by
        fcntl.flock(room, fcntl.LOCK_EX if "alone" in item.keywords else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is long or installs packages, unless it is asked for by name."""
    for name in ("long", "install"):
        if name in (config.option.markexpr or ""):
            continue
        skip = pytest.mark.skip(reason=f"{name}; run with -m {name}")
        for item in items:
            if name in item.keywords:
                item.add_marker(skip)
