"""Known boards, described in one TOML file each, and which of them this machine is.

A board is identified by its device tree and never guessed. If two boards share a name, the size of
the memory decides. If that does not decide either, the board is unknown.
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
_FREE_SHARE = 0.7  # usable memory is at least this share of what is soldered on


@dataclass(frozen=True, kw_only=True)
class JetPack:
    """A release of NVIDIA's software for Jetson.

    Attributes:
        name: version, e.g. `6.2`.
        l4t: prefixes of the L4T releases that belong to it, e.g. `36.4`.
        python: version of the system's Python, which its TensorRT is built for.
        cuda: version of CUDA.
        tensorrt: version of TensorRT.
        last: the last release with the same versions; empty if there is no other.
    """

    name: str
    l4t: tuple[str, ...]
    python: str
    cuda: str
    tensorrt: str
    last: str = ""

    @property
    def title(self) -> str:
        """Human-readable versions, e.g. `6.1 to 6.2.2`."""
        return f"{self.name} to {self.last}" if self.last else self.name

    @property
    def runs_tensorrt(self) -> bool:
        """Whether its TensorRT supports a Python version that plr-edge runs on."""
        return tuple(int(part) for part in self.python.split(".")) >= _OLDEST_PYTHON


@dataclass(frozen=True, kw_only=True)
class BoardBudget:
    """Default budget of a board. None is no limit.

    Attributes:
        power_w: power of the whole board, as its meter measures it.
        memory_bytes: memory of the trainer process.
        duty_share: share of one core's time for training.
        deadline_ms: latency of a frame, 99th percentile.
        max_temp_c: temperature of the hottest sensor.
    """

    power_w: float | None = None
    memory_bytes: int | None = None
    duty_share: float | None = None
    deadline_ms: float | None = None
    max_temp_c: float | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """Description of one type of board.

    Attributes:
        name: short name, which is the name of its file.
        title: human-readable name.
        modules: part numbers in the `compatible` entry of the device tree.
        models: substrings of the `model` entry of the device tree.
        cpu_vendors: vendors in `/proc/cpuinfo`, for machines without a device tree.
        memory_sizes_bytes: memory sizes that it is sold with.
        rails: labels of its power rails, in no particular order.
        total_rails: rails that add up to the whole board; empty if none do.
        power_note: what a reader of the watts should know.
        jetpacks: JetPack releases that run on it.
        engine: default engine, `onnx` or `tensorrt`.
        providers: execution providers of ONNX Runtime, best first: `tensorrt`, `cuda`, `cpu`.
        budget: default budget.
        notes: further notes, one line each.
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
        """The smallest memory that it is sold with; None if unknown."""
        return min(self.memory_sizes_bytes, default=None)

    @property
    def runs_tensorrt(self) -> bool:
        """Whether a JetPack for it has TensorRT for Python 3.10 or newer."""
        return any(release.runs_tensorrt for release in self.jetpacks)

    def has_memory(self, total_bytes: int) -> bool:
        """Return whether a machine with this much usable memory can be this board."""
        return any(_FREE_SHARE * size < total_bytes <= size for size in self.memory_sizes_bytes)


@cache
def jetpacks() -> tuple[JetPack, ...]:
    """Return all releases of JetPack, oldest first."""
    table = tomllib.loads(_JETPACKS.read_text(encoding="utf-8"))
    return tuple(JetPack(**{**row, "l4t": tuple(row["l4t"])}) for row in table["jetpack"])


def find_jetpack(l4t_release: str) -> JetPack | None:
    """Return the JetPack of an L4T release, e.g. `36.4.3`; None if it is unknown.

    Example:
        >>> find_jetpack("36.4.3").title
        '6.1 to 6.2.2'
        >>> find_jetpack("1.0") is None
        True
    """
    for release in jetpacks():
        if any(f"{l4t_release}.".startswith(f"{start}.") for start in release.l4t):
            return release
    return None


@cache
def boards() -> tuple[Board, ...]:
    """Return all known boards, sorted by name."""
    paths = sorted(path for path in _HERE.glob("*.toml") if path != _JETPACKS)
    return tuple(_read(path) for path in paths)


def load_board(name: str) -> Board:
    """Return a board by its name.

    Raises:
        ConfigError: the board is unknown; the message lists the known ones.
    """
    for board in boards():
        if board.name == name:
            return board
    names = ", ".join(board.name for board in boards())
    raise ConfigError(f"unknown board {name[:40]!r}; choose one of {names}")


def detect_board(root: Path = Path("/")) -> Board | None:
    """Return the board of this machine; None if it cannot be identified.

    Args:
        root: folder that contains /proc.
    """
    model = _read_text(root / "proc/device-tree/model")
    compatible = _read_text(root / "proc/device-tree/compatible")
    if model or compatible:
        found = [b for b in boards() if any(module in compatible for module in b.modules)]
        found = found or _best_matches(model)
    else:
        vendor = re.search(r"^vendor_id\s*:\s*(\S+)", _read_text(root / "proc/cpuinfo"), re.M)
        found = [board for board in boards() if vendor and vendor[1] in board.cpu_vendors]
    if len(found) > 1:
        total = re.search(r"^MemTotal:\s*(\d+) kB", _read_text(root / "proc/meminfo"), re.M)
        found = [b for b in found if total and b.has_memory(int(total[1]) * 1024)]
    return found[0] if len(found) == 1 else None


def _best_matches(model: str) -> list[Board]:
    """Return the boards with the longest match in `model`: `Nano 2GB` beats `Nano`."""
    lengths = {
        board.name: max((len(part) for part in board.models if part in model), default=0)
        for board in boards()
    }
    longest = max(lengths.values())
    return [board for board in boards() if longest and lengths[board.name] == longest]


def _read(path: Path) -> Board:
    values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    sizes = tuple(size << 30 for size in values.pop("memory_gib", ()))
    names = values.pop("jetpacks", [])
    releases = tuple(release for release in jetpacks() if release.name in names)
    assert len(releases) == len(names), f"{path.name} names a JetPack that jetpacks.toml lacks"
    values.pop("documented", None)  # for readers; tests/test_boards.py compares budgets with it
    budget = BoardBudget(**values.pop("budget", {}))
    rest: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Board(name=path.stem, memory_sizes_bytes=sizes, jetpacks=releases, budget=budget, **rest)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
