"""Collects what the checks need to know about this machine, and runs all of them."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from plr_edge.boards import detect_board, find_jetpack
from plr_edge.doctor import artifacts, energy, gpu, machine, packages, space
from plr_edge.doctor.base import Finding, Rule, Setup
from plr_edge.doctor.probing import Probe, run_probe
from plr_edge.meters import describe_machine

# a new check is a row of rules and a line here
CHECKS: dict[str, tuple[Rule, ...]] = {
    **machine.CHECKS,
    **packages.CHECKS,
    **gpu.CHECKS,
    **energy.CHECKS,
    **space.CHECKS,
    **artifacts.CHECKS,
}
_PROBES = ("torch", "onnxruntime", "tensorrt", "opencv", "python", "numpy", "cuda-python", "nvml")
_N_PARALLEL = 2  # with CUDA, torch and ONNX Runtime take hundreds of MB each
_DEVICES = ("nvmap", "nvhost-ctrl*", "nvidia[0-9]*", "nvidiactl", "dri/renderD*", "video[0-9]*")


def examine(
    bundle: Path | None = None,
    state: Path | None = None,
    *,
    root: Path = Path("/"),
    probe: Probe = run_probe,
) -> list[Finding]:
    """Check this machine, and try everything that plr-edge needs.

    Args:
        bundle: bundle to read and run too.
        state: directory of a learned state to read too; it may not exist yet.
        root: folder that contains /proc, /sys, /etc, /usr, /var and /dev.
        probe: runs a probe; see `run_probe`.

    Returns:
        One finding per check that is relevant for this machine.
    """
    arguments: dict[str, tuple[str, ...]] = {name: () for name in _PROBES}
    arguments |= {"bundle": (str(bundle),)} if bundle is not None else {}
    arguments |= {"state": (str(state),)} if state is not None else {}
    with ThreadPoolExecutor(_N_PARALLEL) as pool:
        futures = {name: pool.submit(probe, name, *given) for name, given in arguments.items()}
        described, board = describe_machine(root), detect_board(root)
        results = {name: future.result() for name, future in futures.items()}
    places = [path.absolute() for path in (state, user_cache_path("plr-edge")) if path]
    setup = Setup(
        root=root,
        machine=described,
        board=board,
        jetpack=find_jetpack(str(described.get("l4t_release", ""))),
        results=results,
        free_bytes={path: shutil.disk_usage(_existing(path)).free for path in places},
        unwritable=frozenset(path for path in places if not os.access(_existing(path), os.W_OK)),
        locked=_locked(root),
        state=state,
    )
    return judge(setup)


def judge(setup: Setup) -> list[Finding]:
    """Return one finding per check that is relevant for a machine."""
    findings = []
    for name, rules in CHECKS.items():
        found = next(filter(None, (rule(setup) for rule in rules)), None)
        if found is not None:
            findings.append(replace(found, name=name))
    return findings


def _existing(path: Path) -> Path:
    """Return the path, or its closest parent that exists."""
    return next(folder for folder in (path, *path.parents) if os.path.exists(folder))


def _locked(root: Path) -> frozenset[str]:
    """Return the device files of GPUs and cameras that this user may not open."""
    found = []
    for pattern in _DEVICES:
        with suppress(OSError):
            found += list((root / "dev").glob(pattern))
    return frozenset(
        f"/{path.relative_to(root)}" for path in found if not os.access(path, os.R_OK | os.W_OK)
    )
