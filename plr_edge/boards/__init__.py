"""Facts about known boards, a TOML file each, and which of them this machine is.

A board is recognised by what its device tree says, never guessed: where two boards share a name,
the size of the memory decides, and where nothing does, the board is not known.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "Board",
    "BoardBudget",
    "JetPack",
    "boards",
    "detect_board",
    "find_jetpack",
    "jetpacks",
    "load_board",
]

_HERE = Path(__file__).parent
_JETPACKS = _HERE / "jetpacks.toml"
_OLDEST_PYTHON = (3, 10)
_FREE_SHARE = 0.7  # the kernel and the firmware keep up to so much less than is soldered on


@dataclass(frozen=True, kw_only=True)
class JetPack:
    """A release of NVIDIA's software for Jetson.

    Attributes:
        name: such as `6.2`.
        l4t: beginnings of the L4T releases that belong to it, such as `36.4`.
        python: of the system, and so of its TensorRT.
        cuda: version.
        tensorrt: version that it brings.
        last: name of the last release that is the same in all of this; empty where it is the only.
    """

    name: str
    l4t: tuple[str, ...]
    python: str
    cuda: str
    tensorrt: str
    last: str = ""

    @property
    def title(self) -> str:
        """For people: `6.1 to 6.2.2`."""
        return f"{self.name} to {self.last}" if self.last else self.name

    @property
    def runs_tensorrt(self) -> bool:
        """Whether its TensorRT can be called from a Python that plr-edge runs on."""
        return tuple(int(part) for part in self.python.split(".")) >= _OLDEST_PYTHON


@dataclass(frozen=True, kw_only=True)
class BoardBudget:
    """What a board may spend where nothing else is asked for; None is no limit, or no meter.

    Attributes:
        power_w: of the whole board, as its meter sees it.
        memory_bytes: of the trainer's data.
        duty_share: of one core's time, for training.
        deadline_ms: of a frame, 99th percentile.
        max_temp_c: of the hottest sensor.
    """

    power_w: float | None = None
    memory_bytes: int | None = None
    duty_share: float | None = None
    deadline_ms: float | None = None
    max_temp_c: float | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """What is known of one kind of board.

    Attributes:
        name: slug, the name of its file.
        title: for people.
        modules: part numbers that the device tree's `compatible` names.
        models: parts of the device tree's `model`.
        cpu_vendors: of `/proc/cpuinfo`, for machines without a device tree.
        memory_sizes_bytes: that it is sold with.
        rails: that its chips label, in no order.
        total_rails: those that add up to the board; empty where nothing does.
        power_note: what a reader of the watts has to know.
        jetpacks: releases that run on it.
        engine: default engine, `onnx` or `tensorrt`.
        providers: of ONNX Runtime, best first: `tensorrt`, `cuda`, `cpu`.
        budget: what may be spent where nothing else is asked for.
        notes: one line each.
    """

    name: str
    title: str
    modules: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    cpu_vendors: tuple[str, ...] = ()
    memory_sizes_bytes: tuple[int, ...] = ()
    rails: tuple[str, ...] = ()
    total_rails: tuple[str, ...] = ()
    power_note: str = ""
    jetpacks: tuple[JetPack, ...] = ()
    engine: str = "onnx"
    providers: tuple[str, ...] = ("cpu",)
    budget: BoardBudget = BoardBudget()
    notes: tuple[str, ...] = ()

    @property
    def memory_bytes(self) -> int | None:
        """The smallest memory that it is sold with; None where it can have any."""
        return min(self.memory_sizes_bytes, default=None)

    @property
    def runs_tensorrt(self) -> bool:
        """Whether some JetPack gives it TensorRT with Python 3.10 or newer."""
        return any(release.runs_tensorrt for release in self.jetpacks)

    def has_memory(self, total_bytes: int) -> bool:
        """Whether a machine with so much usable memory can be this board."""
        return any(_FREE_SHARE * size < total_bytes <= size for size in self.memory_sizes_bytes)


@cache
def jetpacks() -> tuple[JetPack, ...]:
    """Return the releases of JetPack, oldest first."""
    facts = tomllib.loads(_JETPACKS.read_text(encoding="utf-8"))
    return tuple(JetPack(**{**f, "l4t": tuple(f["l4t"])}) for f in facts["jetpack"])


def find_jetpack(l4t_release: str) -> JetPack | None:
    """Return the JetPack of a release of L4T, such as `36.4.3`; None where it is not known."""
    for release in jetpacks():
        if any(f"{l4t_release}.".startswith(f"{start}.") for start in release.l4t):
            return release
    return None


@cache
def boards() -> tuple[Board, ...]:
    """Return every known board, by name."""
    paths = sorted(path for path in _HERE.glob("*.toml") if path != _JETPACKS)
    return tuple(_read(path) for path in paths)


def load_board(name: str) -> Board:
    """Return the board of a name.

    Raises:
        ConfigError: there is none; names those that there are.
    """
    for board in boards():
        if board.name == name:
            return board
    names = ", ".join(board.name for board in boards())
    raise ConfigError(f"no board {name[:40]!r} is known; there are {names}")


def detect_board(root: Path = Path("/")) -> Board | None:
    """Return the board that this machine says it is; None where it does not say, or not enough.

    Args:
        root: where /proc lies.
    """
    model = _read_text(root / "proc/device-tree/model")
    compatible = _read_text(root / "proc/device-tree/compatible")
    if model or compatible:
        found = [b for b in boards() if any(module in compatible for module in b.modules)]
        found = found or _most_exact(model)
    else:
        vendor = re.search(r"^vendor_id\s*:\s*(\S+)", _read_text(root / "proc/cpuinfo"), re.M)
        found = [board for board in boards() if vendor and vendor[1] in board.cpu_vendors]
    if len(found) > 1:
        total = re.search(r"^MemTotal:\s*(\d+) kB", _read_text(root / "proc/meminfo"), re.M)
        found = [b for b in found if total and b.has_memory(int(total[1]) * 1024)]
    return found[0] if len(found) == 1 else None


def _most_exact(model: str) -> list[Board]:
    """Return the boards whose longest part of a name is in `model`: `Nano 2GB` beats `Nano`."""
    lengths = {
        board.name: max((len(part) for part in board.models if part in model), default=0)
        for board in boards()
    }
    longest = max(lengths.values())
    return [board for board in boards() if longest and lengths[board.name] == longest]


def _read(path: Path) -> Board:
    facts: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    sizes = tuple(size << 30 for size in facts.pop("memory_gib", ()))
    names = facts.pop("jetpacks", [])
    releases = tuple(release for release in jetpacks() if release.name in names)
    assert len(releases) == len(names), f"{path.name} names a JetPack that jetpacks.toml lacks"
    facts.pop("documented", None)  # for people; tests/test_boards.py holds budgets against it
    budget = BoardBudget(**facts.pop("budget", {}))
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()}
    return Board(name=path.stem, memory_sizes_bytes=sizes, jetpacks=releases, budget=budget, **rest)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
