"""TensorRT plans by model, in the user's cache.

A plan fits one version of TensorRT on one GPU. Next to it lies a metadata file (sidecar) with its
digest and what it was built for. If anything there differs from this machine or from the request,
the plan is rebuilt, and the reason is logged.
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
_BUILDER_VERSION = 1  # increased whenever `plan_build` changes its settings
_FREE_PER_WORKSPACE = 4  # a workspace takes at most 1/4 of the free memory
_SMALL_BOARD_BYTES = 8 << 30
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedPlan:
    """A plan that fits this machine.

    Attributes:
        data: the serialised engine.
        path: path in the cache.
        metadata: content of its sidecar.
        reason: why it was just built; None if it was found in the cache.
    """

    data: bytes
    path: Path
    metadata: dict[str, Any]
    reason: str | None


def load_tensorrt_engine(
    bundle: Bundle,
    *,
    max_batch: int | None = None,
    workspace_bytes: int | None = None,
    optimization_level: int | None = None,
) -> TensorRTEngine:
    """Return the bundle's frozen part as a TensorRT engine, building its plan if none fits.

    Args:
        bundle: the bundle.
        max_batch: largest batch of one run. This and the following default to the values of the
            cached plan, or to `DEFAULTS` if there is none.
        workspace_bytes: scratch memory that a layer may take; see `open_plan`.
        optimization_level: 0 builds fastest, 5 searches longest.

    Raises:
        EngineError: TensorRT or the GPU cannot be used, or the build fails.
        BundleError: frozen.onnx changed since the bundle was opened.
    """
    given: dict[str, Any] = {
        "max_batch": max_batch,
        "workspace_bytes": workspace_bytes,
        "optimization_level": optimization_level,
    }
    plan = open_plan(bundle, **given)
    try:
        return TensorRTEngine(plan.data, outputs=plan.metadata["outputs"])
    except PlanRefusedError as error:
        if plan.reason is not None:  # it was just built
            raise
        plan = open_plan(bundle, **given, why=str(error))
        return TensorRTEngine(plan.data, outputs=plan.metadata["outputs"])


def open_plan(
    bundle: Bundle,
    *,
    max_batch: int | None = None,
    workspace_bytes: int | None = None,
    optimization_level: int | None = None,
    why: str | None = None,
    folder: Path | None = None,
    root: Path = Path("/"),
) -> CachedPlan:
    """Return the plan of the bundle's frozen part for this machine, building it if necessary.

    Args:
        bundle: the bundle.
        max_batch: largest batch of one run; larger batches are run in pieces.
        workspace_bytes: scratch memory that a layer may take. The default and the limit are a
            quarter of the free memory.
        optimization_level: 0 builds fastest, 5 searches longest.
        why: reason for a rebuild, even if the cached plan fits.
        folder: folder of the plans; in the user's cache by default.
        root: folder that contains /etc.

    Raises:
        EngineError: TensorRT or the GPU cannot be used, the build fails, or the part is int8 with
            unsigned activations, which TensorRT does not support.
        BundleError: frozen.onnx changed since the bundle was opened.
    """
    if bundle.manifest.get("int8_profile") == "u8s8":  # TensorRT has no unsigned activations
        raise EngineError(
            f"{bundle.path} is int8 for x86 processors (u8s8); TensorRT needs signed activations; "
            "export with --int8-profile s8s8"
        )
    trt, device = load_tensorrt(), describe_device()
    bundle.read("frozen.onnx")  # verifies it again
    machine = _needed(bundle, str(trt.__version__), device, l4t_release(root))
    given = {
        "max_batch": max_batch,
        "workspace_bytes": workspace_bytes,
        "optimization_level": optimization_level,
    }
    given = {name: value for name, value in given.items() if value is not None}
    folder = user_cache_path("plr-edge") / "engines" if folder is None else folder
    path = folder / f"{bundle.frozen_sha256[:32]}.plan"
    with _locked(path):
        kept, problem = _read_sidecar(path)
        reason = why if why is not None else problem or _difference(kept, {**machine, **given})
        if reason is None:
            data, reason = _read_plan(path, kept)
            if data is not None:
                return CachedPlan(data, path, kept, None)
        wanted = {**machine, **_settings(kept), **given}
        _logger.warning("building a TensorRT plan, which takes minutes: %s", reason)
        metadata = _built(bundle, path, wanted, device)
        data, damage = _read_plan(path, metadata)
        if data is None:
            raise EngineError(f"the plan just built cannot be used: {damage}; check the disk")
        return CachedPlan(data, path, metadata, reason)


def _needed(bundle: Bundle, version: str, device: Device, l4t: str | None) -> dict[str, Any]:
    """Return what a plan of a bundle must have been built for."""
    release = None if l4t is None else "R{} (release), REVISION: {}".format(*l4t.split(".", 1))
    return {
        "recipe": _BUILDER_VERSION,
        "onnx_sha256": bundle.frozen_sha256,
        "precision": str(bundle.manifest.get("precision", "fp32")),
        "tensorrt": version,
        "gpu": device.name,
        "compute_capability": device.compute_capability,
        "l4t": release,
    }


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a plan, so that two processes do not build it at the same time.

    Raises:
        EngineError: the cache cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(
            path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise EngineError(
            f"cannot write {path.parent}: {error.strerror}; set XDG_CACHE_HOME to a writable folder"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_sidecar(path: Path) -> tuple[dict[str, Any], str | None]:
    """Return the metadata of a plan, and None or why there is none."""
    try:
        metadata = json.loads(read_regular(_sidecar(path)))
    except FileNotFoundError:
        return {}, "there is no plan for this frozen part yet"
    except (OSError, ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("outputs"), list):
        return {}, "cached plan metadata is corrupt"
    return metadata, None


def _difference(kept: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    """Return how the metadata of a plan differs from what is wanted; None if it does not."""
    changed = [
        f"{name} was {kept.get(name)!r}, now {value!r}"
        for name, value in wanted.items()
        if name not in kept or kept[name] != value
    ]
    return "; ".join(changed) or None


def _settings(kept: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of an earlier plan, which stay in force unless others are given."""
    known = {
        name: kept[name]
        for name in DEFAULTS
        if name in kept and (kept[name] is None or type(kept[name]) is int)
    }
    return {**DEFAULTS, **known}


def _read_plan(path: Path, metadata: dict[str, Any]) -> tuple[bytes | None, str | None]:
    """Return a plan, or None and why it does not match its metadata."""
    try:
        data = read_regular(path)
    except OSError as error:
        return None, f"the plan cannot be read ({error.strerror})"
    if hashlib.sha256(data).hexdigest() != metadata.get("plan_sha256"):
        return None, "the plan does not match its metadata: sha256 differs"
    return data, None


def _workspace_bytes(given: int | None, share: int) -> int:
    """Return the workspace to build with: a share of the free memory, or less if less was given."""
    if given is not None and given > share:
        _logger.warning(
            "--workspace of %d MiB is more than a quarter of the free memory; %d MiB are used",
            given >> 20, share >> 20,
        )  # fmt: skip
    return share if given is None else min(given, share)


def _built(bundle: Bundle, path: Path, wanted: dict[str, Any], device: Device) -> dict[str, Any]:
    """Build in a child process, then move the plan into the cache, and its metadata after it."""
    partial = path.with_suffix(".partial")
    machine = f"{wanted['tensorrt']}-{device.name}-{device.compute_capability}"
    timings = path.with_name(f"timing-{re.sub(r'[^A-Za-z0-9.]+', '-', machine)}.cache")
    share = device.free_bytes // _FREE_PER_WORKSPACE
    small = device.integrated and device.total_bytes <= _SMALL_BOARD_BYTES
    job = BuildJob(
        onnx=str(bundle.path / "frozen.onnx"),
        onnx_sha256=bundle.frozen_sha256,
        plan=str(partial),
        timing_cache=str(timings),
        precision=wanted["precision"],
        max_batch=wanted["max_batch"],
        workspace_bytes=_workspace_bytes(wanted["workspace_bytes"], share),
        tactic_dram_bytes=device.free_bytes // 2 if small else None,
        optimization_level=wanted["optimization_level"],
    )
    try:
        result = build_in_child(job)
        data = read_regular(partial)
        _sidecar(path).unlink(missing_ok=True)  # a plan without metadata is never used
        os.replace(partial, path)
        sync_folder(path.parent)
        metadata = {
            **wanted,
            **result,
            "workspace_used_bytes": job.workspace_bytes,
            "plan_sha256": hashlib.sha256(data).hexdigest(),
            "plan_bytes": len(data),
        }
        replace_file(_sidecar(path), json.dumps(metadata, indent=1).encode())
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return metadata
