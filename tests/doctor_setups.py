"""Setups of whole machines for doctor: trees of boards, and the results of the probes there.

`healthy("orin-nano-8gb", folder)` is one without faults; a test breaks it. The results of
probes for broken packages were recorded from the packages named beside them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_boards import FakeBoard, make_board, write

from plr_edge.doctor.base import Finding
from plr_edge.doctor.examine import examine

EXECUTABLE = "/opt/plr-edge/bin/python"
PIP = f"{EXECUTABLE} -m pip"
SITE = "/opt/plr-edge/lib/python3.10/site-packages"
DIST = "/usr/lib/python3.10/dist-packages"

JETPACK_6: dict[str, dict[str, Any]] = {
    "python": {
        "version": "3.10.12", "executable": EXECUTABLE, "prefix": "/opt/plr-edge", "venv": True,
        "sees_system": True, "extras": {"serve": True, "ros": True, "video": False},
        "packages": {"numpy": [["1.26.4", SITE]], "torch": [["2.5.0a0+nv24.8", SITE]],
                     "onnxruntime": [["1.23.2", SITE]], "tensorrt": [["10.3.0", DIST]]},
    },
    "numpy": {"found": True, "file": f"{SITE}/numpy/__init__.py", "version": "1.26.4"},
    "torch": {
        "found": True, "file": f"{SITE}/torch/__init__.py", "version": "2.5.0a0+872d972e41.nv24.08",
        "cuda": "12.6", "reachable": True, "gpu": "Orin", "capability": "8.7",
        "architectures": ["sm_87"],
    },
    "onnxruntime": {"found": True, "version": "1.23.2", "providers": ["CPUExecutionProvider"],
                    "failed": {}},
    "opencv": {"found": True, "file": f"{DIST}/cv2/__init__.py", "version": "4.8.0",
               "gstreamer": True},
    "tensorrt": {"found": True, "file": f"{DIST}/tensorrt/__init__.py", "version": "10.3.0"},
    "cuda-python": {"found": True, "version": "12.9.4", "status": "cudaSuccess", "n_gpus": 1},
    "nvml": {"found": False},
}  # fmt: skip
JETPACK_7 = JETPACK_6 | {
    "python": JETPACK_6["python"] | {"version": "3.12.3"},
    "torch": JETPACK_6["torch"] | {"version": "2.13.0", "cuda": "13.0", "gpu": "Thor",
                                   "capability": "11.0", "architectures": ["sm_110"]},
    "cuda-python": JETPACK_6["cuda-python"] | {"version": "13.0.3"},
    "tensorrt": JETPACK_6["tensorrt"] | {"version": "10.13.3"},
}  # fmt: skip
PLAIN = {
    **{name: {"found": False} for name in ("tensorrt", "cuda-python", "nvml")},
    "python": JETPACK_6["python"] | {"packages": {}, "sees_system": False},
    "numpy": JETPACK_6["numpy"],
    "torch": {"found": True, "version": "2.13.0+cpu", "cuda": None},
    "onnxruntime": JETPACK_6["onnxruntime"],
    "opencv": {"found": True, "file": f"{SITE}/cv2/__init__.py", "version": "5.0.0",
               "gstreamer": False},
}  # fmt: skip
GPU_COMPUTER = PLAIN | {
    "torch": JETPACK_6["torch"] | {"gpu": "NVIDIA GeForce RTX 4060", "version": "2.13.0"},
    "nvml": {"found": True, "rails": ["gpu0"]},
}


@dataclass
class Machine:
    """A tree and the answers of the probes; what a test breaks, it breaks in these."""

    tree: FakeBoard
    answers: dict[str, dict[str, Any]]

    def write(self, path: str, text: str) -> None:
        write(self.tree.root / path, text)

    def remove(self, path: str) -> None:
        (self.tree.root / path).unlink()

    def unreadable(self, path: str) -> None:
        """Let a file be there and not be readable, not even by root."""
        (self.tree.root / path).unlink()
        (self.tree.root / path).mkdir()

    def process(self, number: int, name: str, resident_mb: int) -> None:
        self.write(f"proc/{number}/status", f"Name:\t{name}\nVmRSS:\t{resident_mb * 1000} kB")

    def tell(self, probe: str, **facts: Any) -> None:
        """Let a probe tell this too."""
        self.answers[probe] = self.answers[probe] | facts

    def tell_only(self, probe: str, **facts: Any) -> None:
        self.answers[probe] = facts

    def install(self, *names: str) -> None:
        """Let pip have put packages there."""
        for name in names:
            self.answers["python"]["packages"][name] = [["1.0", SITE]]

    def examine(self, **given: Any) -> dict[str, Finding]:
        findings = examine(root=self.tree.root, probe=lambda name, *_: self.answers[name], **given)
        return {finding.name: finding for finding in findings}


def healthy(board: str, folder: Path) -> Machine:
    """Make a machine in which doctor finds nothing to fix."""
    tree = make_board(board, folder)
    answers: Mapping[str, Any] = PLAIN
    if tree.board.runs_tensorrt:
        answers = JETPACK_7 if board == "agx-thor" else JETPACK_6
    machine = Machine(tree, copy.deepcopy(dict(answers)))
    machine.write("proc/sys/kernel/osrelease", "5.15.148-tegra" if tree.board.jetpacks else "6.8.0")
    machine.write("proc/swaps", "Filename Type Size Used Priority\n/swapfile file 4194300 0 -2")
    machine.write("etc/group", "root:x:0:\nvideo:x:44:\nrender:x:104:")
    machine.write("proc/meminfo", "MemTotal: 7620000 kB\nMemAvailable: 4000000 kB")
    if tree.board.jetpacks:
        machine.write("var/lib/nvpmodel/status", "pmode:0000")
    if tree.board.runs_tensorrt:
        machine.write(f"{DIST[1:]}/tensorrt/__init__.py", "")
        machine.write(f"{DIST[1:]}/cv2/__init__.py", "")
        tree.set_total_w(5)
    if board == "desktop":
        machine.tree.set_w({"package-0": 1})
    return machine


def gpu_computer(folder: Path) -> Machine:
    """Make a PC with an NVIDIA GPU."""
    machine = healthy("desktop", folder)
    machine.write("proc/driver/nvidia/version", "NVRM version: 580.1")
    machine.answers = copy.deepcopy(GPU_COMPUTER)
    return machine
