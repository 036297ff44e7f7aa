"""What a check is given and what it returns.

A check is a row of rules, each of which knows one fault; the first that has something to say gives
the finding. Where none has, the check does not concern this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from plr_edge.boards import Board, JetPack
from plr_edge.doctor.ask import Answer
from plr_edge.files import read_text

OK, ADVICE, BROKEN, ABSENT = "ok", "advice", "broken", "absent"
GIB = 1 << 30
_CONTAINERS = (".dockerenv", "run/.containerenv", "run/systemd/container")


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        status: `ok`; `advice`: it works, and could do better; `broken`: it is there, or has to
            be, and does not work; `absent`: it is not there, and need not be.
        found: one line.
        mend: the command that mends it, or what to do where there is no command.
        name: of the check.
    """

    status: str
    found: str
    mend: str | None = None
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A machine as it was found, for the rules to judge.

    Attributes:
        root: where /proc, /sys, /etc, /usr, /var and /dev lie.
        facts: of `describe_machine`.
        board: which it is; None where it does not say.
        jetpack: of its L4T release; None on other machines, and where it is not known.
        answers: of the probes in `child`, by name.
        free_bytes: of the folders that plr-edge writes to, which need not be there yet.
        unwritable: those of them that refuse to be written.
        locked: device files that this user may not open.
        state: directory of what is learned, where one was given.
    """

    root: Path
    facts: Mapping[str, str | int]
    board: Board | None
    jetpack: JetPack | None
    answers: Mapping[str, Answer]
    free_bytes: Mapping[Path, int] = field(default_factory=dict)
    unwritable: frozenset[Path] = frozenset()
    locked: frozenset[str] = frozenset()
    state: Path | None = None

    def answer(self, name: str) -> Answer:
        """Return what a probe told; empty where it was not asked."""
        return self.answers.get(name, {})

    def text(self, path: str) -> str:
        """Return a file below the root; empty where it cannot be read."""
        return read_text(self.root / path) or ""

    @cached_property
    def kernel(self) -> str:
        """Release of the kernel, which a container shares with its host."""
        return self.text("proc/sys/kernel/osrelease")

    @cached_property
    def is_jetson(self) -> bool:
        """Whether the device tree, the L4T release or the kernel says so."""
        known = self.board is not None and bool(self.board.jetpacks)
        compatible = self.text("proc/device-tree/compatible")
        tegra = self.kernel.endswith("-tegra") or "l4t_release" in self.facts
        return known or "nvidia," in compatible or tegra

    @cached_property
    def has_gpu(self) -> bool:
        """Whether there is an NVIDIA GPU with a driver."""
        return self.is_jetson or (self.root / "proc/driver/nvidia/version").exists()

    @cached_property
    def in_container(self) -> bool:
        """Whether this is a container, whose host may have what is not seen here."""
        return any((self.root / name).exists() for name in _CONTAINERS)

    @property
    def python(self) -> str:
        """`3.10` of this interpreter."""
        return ".".join(str(self.answer("python").get("version", "")).split(".")[:2])

    @property
    def pip(self) -> str:
        """The pip of this interpreter, as a command."""
        return f"{self.answer('python').get('executable', 'python3')} -m pip"

    @property
    def sees_system(self) -> bool:
        """Whether this interpreter imports from the system's packages too."""
        return bool(self.answer("python").get("sees_system"))

    @property
    def total_bytes(self) -> int | None:
        """Of the memory."""
        found = self.facts.get("memory_bytes")
        return found if isinstance(found, int) else None

    @property
    def is_small(self) -> bool:
        """Whether it has 8 GB of memory or less, as the boards on which it runs out."""
        return self.total_bytes is not None and self.total_bytes <= 8 * GIB

    def installed(self, *names: str) -> list[str]:
        """Return those of some names of packages that pip, or the system, has put there."""
        packages = self.answer("python").get("packages", {})
        return [name for name in names if name in packages]

    def in_system(self, module: str) -> str | None:
        """Return where the system's Python keeps a module; None where it has none."""
        for folder in sorted(self.root.glob("usr/lib/python3*/dist-packages")):
            for path in sorted(folder.glob(f"{module}*")):
                if re.fullmatch(rf"{module}(\.[\w-]+\.so)?", path.name):
                    return f"/{folder.relative_to(self.root)}"
        return None

    def is_of_system(self, probe: str) -> bool:
        """Whether what a probe imported came with the system, not by pip."""
        file = str(self.answer(probe).get("file", ""))
        return re.match(r"/usr/lib/python3[\d.]*/dist-packages/", file) is not None

    def to_see_system(self) -> str:
        """Return the command that lets this interpreter import the system's packages."""
        python = self.answer("python")
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
        """Return the command that removes those of some packages that are installed."""
        return f"{self.pip} uninstall -y {' '.join(self.installed(*names) or names)}"


Rule = Callable[[Setup], "Finding | None"]


def ok(found: str) -> Finding:
    return Finding(OK, found)


def advice(found: str, mend: str) -> Finding:
    return Finding(ADVICE, found, mend)


def broken(found: str, mend: str) -> Finding:
    return Finding(BROKEN, found, mend)


def absent(found: str, mend: str | None = None) -> Finding:
    return Finding(ABSENT, found, mend)


def size(n_bytes: int) -> str:
    """Return `820 MB` or `4.1 GB`."""
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
