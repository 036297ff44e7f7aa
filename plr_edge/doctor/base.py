"""The input and the output of a check: `Setup` and `Finding`.

A check is a row of rules. Each rule recognises one fault, and the first one that applies returns
the finding. If none applies, the check is not relevant for this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from plr_edge.boards import Board, JetPack
from plr_edge.doctor.probing import ProbeResult
from plr_edge.files import read_text

OK, ADVICE, BROKEN, ABSENT = "ok", "advice", "broken", "absent"
GIB = 1 << 30
_CONTAINERS = (".dockerenv", "run/.containerenv", "run/systemd/container")


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    Attributes:
        status: `ok`; `advice`, it works but could be better; `broken`, it is needed or installed
            and does not work; `absent`, it is missing and optional.
        found: what was found, one line.
        fix: the command that fixes it, or what to do if there is no command.
        name: name of the check.
    """

    status: str
    found: str
    fix: str | None = None
    name: str = ""

    def to_dict(self) -> dict[str, str | None]:
        """Return a JSON-serialisable dict, in which `fix` is called `mend`."""
        return {"status": self.status, "found": self.found, "mend": self.fix, "name": self.name}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A machine as it was found; the input of the rules.

    Attributes:
        root: folder that contains /proc, /sys, /etc, /usr, /var and /dev.
        machine: result of `describe_machine`.
        board: the board; None if unknown.
        jetpack: JetPack of its L4T release; None if unknown or not a Jetson.
        results: results of the probes by name.
        free_bytes: free space of the folders that plr-edge writes to; they may not exist yet.
        unwritable: those of these folders that this user may not write to.
        locked: device files that this user may not open.
        state: directory of the learned state, if one was given.
    """

    root: Path
    machine: Mapping[str, str | int]
    board: Board | None
    jetpack: JetPack | None
    results: Mapping[str, ProbeResult]
    free_bytes: Mapping[Path, int] = field(default_factory=dict)
    unwritable: frozenset[Path] = frozenset()
    locked: frozenset[str] = frozenset()
    state: Path | None = None

    def result(self, name: str) -> ProbeResult:
        """Return the result of a probe; empty if it did not run."""
        return self.results.get(name, {})

    def text(self, path: str) -> str:
        """Return the text of a file below the root; empty if it cannot be read."""
        return read_text(self.root / path) or ""

    @cached_property
    def kernel(self) -> str:
        """Release of the kernel; a container shares it with its host."""
        return self.text("proc/sys/kernel/osrelease")

    @cached_property
    def is_jetson(self) -> bool:
        """Whether this is a Jetson, by its device tree, L4T release or kernel."""
        known = self.board is not None and bool(self.board.jetpacks)
        compatible = self.text("proc/device-tree/compatible")
        tegra = self.kernel.endswith("-tegra") or "l4t_release" in self.machine
        return known or "nvidia," in compatible or tegra

    @cached_property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU with a driver."""
        return self.is_jetson or (self.root / "proc/driver/nvidia/version").exists()

    @cached_property
    def in_container(self) -> bool:
        """Whether this is a container; its host may have things that are not visible here."""
        return any((self.root / name).exists() for name in _CONTAINERS)

    @property
    def python(self) -> str:
        """Version of this interpreter, e.g. `3.10`."""
        return ".".join(str(self.result("python").get("version", "")).split(".")[:2])

    @property
    def pip(self) -> str:
        """Command that runs the pip of this interpreter."""
        return f"{self.result('python').get('executable', 'python3')} -m pip"

    @property
    def sees_system(self) -> bool:
        """Whether this interpreter also imports the system's packages."""
        return bool(self.result("python").get("sees_system"))

    @property
    def total_bytes(self) -> int | None:
        """Total memory; None if unknown."""
        found = self.machine.get("memory_bytes")
        return found if isinstance(found, int) else None

    @property
    def is_small(self) -> bool:
        """Whether it has at most 8 GB of memory, like the boards on which memory runs out."""
        return self.total_bytes is not None and self.total_bytes <= 8 * GIB

    def installed(self, *names: str) -> list[str]:
        """Return those of the named packages that are installed."""
        packages = self.result("python").get("packages", {})
        return [name for name in names if name in packages]

    def in_system(self, module: str) -> str | None:
        """Return the folder of a module in the system's Python; None if it has none."""
        for folder in sorted(self.root.glob("usr/lib/python3*/dist-packages")):
            for path in sorted(folder.glob(f"{module}*")):
                if re.fullmatch(rf"{module}(\.[\w-]+\.so)?", path.name):
                    return f"/{folder.relative_to(self.root)}"
        return None

    def is_from_system(self, probe: str) -> bool:
        """Return whether the library of a probe came with the system instead of pip."""
        file = str(self.result(probe).get("file", ""))
        return re.match(r"/usr/lib/python3[\d.]*/dist-packages/", file) is not None

    def to_see_system(self) -> str:
        """Return the command that makes the system's packages visible to this interpreter."""
        python = self.result("python")
        same = self.jetpack is None or self.jetpack.python == self.python
        if python.get("venv") and same:
            return (
                "sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' "
                f"{python['prefix']}/pyvenv.cfg"
            )
        return (
            "/usr/bin/python3 -m venv --system-site-packages ~/plr-edge  "
            "# and install plr-edge into it"
        )

    def uninstall(self, *names: str) -> str:
        """Return the command that uninstalls those of the named packages that are installed."""
        return f"{self.pip} uninstall -y {' '.join(self.installed(*names) or names)}"


Rule = Callable[[Setup], "Finding | None"]


def ok(found: str) -> Finding:
    return Finding(OK, found)


def advice(found: str, fix: str) -> Finding:
    return Finding(ADVICE, found, fix)


def broken(found: str, fix: str) -> Finding:
    return Finding(BROKEN, found, fix)


def absent(found: str, fix: str | None = None) -> Finding:
    return Finding(ABSENT, found, fix)


def size(n_bytes: int) -> str:
    """Format a size, e.g. `820 MB` or `4.1 GB`.

    Example:
        >>> size(4_100_000_000)
        '4.1 GB'
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
