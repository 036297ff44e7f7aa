"""Plans by model, in the user's cache: opened where they fit this machine, else built, with reason.

A plan fits one TensorRT build on one GPU. Beside each lies a sidecar of what it was built for and
its digest; one difference, and the plan is built anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from plr_edge.bundle.bundle import Bundle
from plr_edge.engines.cuda import describe_device
from plr_edge.engines.cuda_base import Device
from plr_edge.engines.plan_build import BuildJob, build_in_child
from plr_edge.engines.tensorrt_engine import PlanRefusedError, TensorRTEngine
from plr_edge.engines.tensorrt_versions import load_tensorrt
from plr_edge.errors import EngineError
from plr_edge.files import read_regular, replace_file, sync_folder
from plr_edge.meters.board import l4t_release

DEFAULTS = {"max_batch": 16, "workspace_bytes": None, "optimization_level": 3}
_RECIPE = 1  # raised when plan_build sets something else
_SHARE_OF_FREE = 4  # a workspace takes at most 1/4 of the free memory
_SMALL_BOARD_BYTES = 8 << 30
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A plan that fits this machine.

    Attributes:
        data: the serialised engine.
        path: where it is kept.
        facts: its sidecar.
        reason: why it was built just now; None where it was there.
    """

    data: bytes
    path: Path
    facts: dict[str, Any]
    reason: str | None


def load_tensorrt_engine(
    bundle: Bundle,
    *,
    max_batch: int | None = None,
    workspace_bytes: int | None = None,
    optimization_level: int | None = None,
) -> TensorRTEngine:
    """Return the bundle's frozen part as a TensorRT engine, building its plan where none fits.

    What is not given is as in the plan that is there, else as in `DEFAULTS`.

    Raises:
        EngineError: TensorRT or the GPU cannot be used, or the build fails.
        BundleError: frozen.onnx is no longer what the manifest says.
    """
    given: dict[str, Any] = {
        "max_batch": max_batch,
        "workspace_bytes": workspace_bytes,
        "optimization_level": optimization_level,
    }
    plan = open_plan(bundle, **given)
    try:
        return TensorRTEngine(plan.data, outputs=plan.facts["outputs"])
    except PlanRefusedError as error:
        if plan.reason is not None:  # it was built a moment ago
            raise
        plan = open_plan(bundle, **given, why=str(error))
        return TensorRTEngine(plan.data, outputs=plan.facts["outputs"])


def open_plan(
    bundle: Bundle,
    *,
    max_batch: int | None = None,
    workspace_bytes: int | None = None,
    optimization_level: int | None = None,
    why: str | None = None,
    folder: Path | None = None,
    root: Path = Path("/"),
) -> Plan:
    """Return the plan of the bundle's frozen part that fits this machine, building it if need be.

    Args:
        bundle: whose frozen.onnx is meant.
        max_batch: largest batch of one run; a larger one is run in pieces.
        workspace_bytes: scratch that a layer may take, at most a quarter of the free memory, which
            is the default.
        optimization_level: 0 builds fastest, 5 searches longest.
        why: build even if one fits, for this reason.
        folder: of the plans; below the user's cache by default.
        root: where /etc lies.

    Raises:
        EngineError: TensorRT or the GPU cannot be used, the build fails, or the part is int8 of a
            kind that TensorRT does not take.
        BundleError: frozen.onnx is no longer what the manifest says.
    """
    if bundle.manifest.get("int8_profile") == "u8s8":  # TensorRT has no unsigned activations
        raise EngineError(
            f"{bundle.path} is int8 for x86 processors (u8s8); TensorRT needs signed activations: "
            "export with --int8-profile s8s8"
        )
    trt, device = load_tensorrt(), describe_device()
    l4t = l4t_release(root)
    bundle.read("frozen.onnx")  # verified again
    machine = {
        "recipe": _RECIPE,
        "onnx_sha256": bundle.frozen_sha256,
        "precision": str(bundle.manifest.get("precision", "fp32")),
        "tensorrt": str(trt.__version__),
        "gpu": device.name,
        "compute_capability": device.compute_capability,
        "l4t": l4t and "R{} (release), REVISION: {}".format(*l4t.split(".", 1)),
    }
    given = {
        "max_batch": max_batch,
        "workspace_bytes": workspace_bytes,
        "optimization_level": optimization_level,
    }
    given = {name: value for name, value in given.items() if value is not None}
    folder = folder or user_cache_path("plr-edge") / "engines"
    path = folder / f"{bundle.frozen_sha256[:32]}.plan"
    with _alone(path):
        kept, problem = _read_sidecar(path)
        reason = why or problem or _difference(kept, {**machine, **given})
        if reason is None:
            data, reason = _read_plan(path, kept)
            if data is not None:
                return Plan(data, path, kept, None)
        wanted = {**machine, **_settings(kept), **given}
        _logger.warning("building a TensorRT plan, which takes minutes: %s", reason)
        facts = _built(bundle, path, wanted, device)
        data, damage = _read_plan(path, facts)
        if data is None:
            raise EngineError(f"the plan just built cannot be used: {damage}; is the disk sound?")
        return Plan(data, path, facts, reason)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process at a time look at a plan, so that two never build it side by side."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(
            path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise EngineError(
            f"cannot write {path.parent}: {error.strerror}; set XDG_CACHE_HOME to a place that can "
            "be written"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_sidecar(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return what a plan was built for, or nothing and the reason."""
    try:
        facts = json.loads(read_regular(_sidecar(path)))
    except FileNotFoundError:
        return {}, "there is no plan of this frozen part yet"
    except (OSError, ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or not isinstance(facts.get("outputs"), list):
        return {}, "the plan's sidecar is damaged"
    return facts, None


def _difference(kept: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Say in what a plan differs from what is wanted; None where in nothing."""
    changed = [
        f"{name} was {kept.get(name)!r}, now {value!r}"
        for name, value in wanted.items()
        if name not in kept or kept[name] != value
    ]
    return "; ".join(changed) or None


def _settings(kept: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a plan of before: what its owner found right goes on."""
    known = {
        name: kept[name]
        for name in DEFAULTS
        if name in kept and (kept[name] is None or type(kept[name]) is int)
    }
    return {**DEFAULTS, **known}


def _read_plan(path: Path, facts: dict[str, Any]) -> tuple[bytes | None, str | None]:
    """Return a plan, or the reason why it is not the one of its sidecar."""
    try:
        data = read_regular(path)
    except OSError as error:
        return None, f"the plan cannot be read ({error.strerror})"
    if hashlib.sha256(data).hexdigest() != facts.get("plan_sha256"):
        return None, "the plan is not the one of its sidecar: sha256 differs"
    return data, None


def _built(bundle: Bundle, path: Path, wanted: dict[str, Any], device: Device) -> dict[str, Any]:
    """Build in a child process, put the plan in its place, and its sidecar after it."""
    partial = path.with_suffix(".partial")
    machine = f"{wanted['tensorrt']}-{device.name}-{device.compute_capability}"
    timings = path.with_name(f"timing-{re.sub(r'[^A-Za-z0-9.]+', '-', machine)}.cache")
    share = device.free_bytes // _SHARE_OF_FREE
    small = device.integrated and device.total_bytes <= _SMALL_BOARD_BYTES
    job = BuildJob(
        onnx=str(bundle.path / "frozen.onnx"),
        onnx_sha256=bundle.frozen_sha256,
        plan=str(partial),
        timing_cache=str(timings),
        precision=wanted["precision"],
        max_batch=wanted["max_batch"],
        workspace_bytes=min(wanted["workspace_bytes"] or share, share),
        tactic_dram_bytes=device.free_bytes // 2 if small else None,
        optimization_level=wanted["optimization_level"],
    )
    try:
        said = build_in_child(job)
        data = read_regular(partial)
        _sidecar(path).unlink(missing_ok=True)  # a plan without one is never trusted
        os.replace(partial, path)
        sync_folder(path.parent)
        facts = {
            **wanted,
            **said,
            "workspace_used_bytes": job.workspace_bytes,
            "plan_sha256": hashlib.sha256(data).hexdigest(),
            "plan_bytes": len(data),
        }
        replace_file(_sidecar(path), json.dumps(facts, indent=1).encode())
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return facts
