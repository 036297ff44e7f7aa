"""Ask what has to be known of this machine, and judge it by every check."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from platformdirs import user_cache_path

from plr_edge.boards import detect_board, find_jetpack
from plr_edge.doctor import energy, gpu, learned, machine, packages, space
from plr_edge.doctor.ask import Answer, ask
from plr_edge.doctor.base import Finding, Rule, Setup
from plr_edge.meters import describe_machine

# a new check is a row of rules and a line here
CHECKS: dict[str, tuple[Rule, ...]] = {
    **machine.CHECKS,
    **packages.CHECKS,
    **gpu.CHECKS,
    **energy.CHECKS,
    **space.CHECKS,
    **learned.CHECKS,
}
_PROBES = ("torch", "onnxruntime", "tensorrt", "opencv", "python", "numpy", "cuda-python", "nvml")
_AT_ONCE = 2  # torch and ONNX Runtime each take hundreds of MB where there is CUDA
_DEVICES = ("nvmap", "nvhost-ctrl*", "nvidia[0-9]*", "nvidiactl", "dri/renderD*", "video[0-9]*")


def examine(
    bundle: Path | None = None,
    state: Path | None = None,
    *,
    root: Path = Path("/"),
    ask: Callable[..., Answer] = ask,
) -> list[Finding]:
    """Look at this machine, and try what plr-edge needs of it.

    Args:
        bundle: to be read and run, too.
        state: to be read, too; need not be there yet.
        root: where /proc, /sys, /etc, /usr, /var and /dev lie.
        ask: tries one thing; see `ask.ask`.

    Returns:
        A finding for each check that concerns this machine.
    """
    questions: dict[str, tuple[str, ...]] = {name: () for name in _PROBES}
    questions |= {"bundle": (str(bundle),)} if bundle else {}
    questions |= {"state": (str(state),)} if state else {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = {name: pool.submit(ask, name, *given) for name, given in questions.items()}
        facts, board = describe_machine(root), detect_board(root)
        answers = {name: future.result() for name, future in asked.items()}
    places = [path.absolute() for path in (state, user_cache_path("plr-edge")) if path]
    setup = Setup(
        root=root,
        facts=facts,
        board=board,
        jetpack=find_jetpack(str(facts.get("l4t_release", ""))),
        answers=answers,
        free_bytes={path: shutil.disk_usage(_existing(path)).free for path in places},
        unwritable=frozenset(path for path in places if not os.access(_existing(path), os.W_OK)),
        locked=_locked(root),
        state=state,
    )
    return judge(setup)


def judge(setup: Setup) -> list[Finding]:
    """Return a finding for each check that concerns a machine."""
    findings = []
    for name, rules in CHECKS.items():
        found = next(filter(None, (rule(setup) for rule in rules)), None)
        if found is not None:
            findings.append(replace(found, name=name))
    return findings


def _existing(path: Path) -> Path:
    """Return the folder, or the first above it that is there."""
    return next(folder for folder in (path, *path.parents) if os.path.exists(folder))


def _locked(root: Path) -> frozenset[str]:
    """Return the device files of GPU and cameras that this user may not open."""
    found = []
    for pattern in _DEVICES:
        with suppress(OSError):
            found += list((root / "dev").glob(pattern))
    return frozenset(
        f"/{path.relative_to(root)}" for path in found if not os.access(path, os.R_OK | os.W_OK)
    )
