"""Opening a bundle: bytes, then values, then models are checked before anything is built."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from plr_edge.bundle.bundle import Bundle, weights_in
from plr_edge.bundle.manifest import read_verified
from plr_edge.bundle.onnx_check import check_onnx
from plr_edge.errors import BundleError, ConfigError
from plr_edge.replay.latent_axes import AXES
from plr_edge.tensors import read_tensors

_MAX_LEVELS, _MAX_WIDTH, _MAX_SIDE, _MAX_AXES = 64, 1 << 24, 4096, 5


def open_bundle(path: str | Path, trust: Path | None = None) -> Bundle:
    """Open a bundle and verify every byte of it.

    Args:
        path: directory of the bundle.
        trust: public key (PEM) that must have signed the manifest.

    Raises:
        BundleError: a file is missing, too large, does not match its sha256, is not signed by the
            key, or exceeds a limit on what a bundle may hold.
    """
    path = Path(path)
    manifest, members = read_verified(path, trust)
    bundle = Bundle(path, manifest, trusted=trust is not None)
    try:
        check_manifest(bundle, len(members["adaptive.onnx"]))
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ConfigError,
        OverflowError,
    ) as error:
        reason = str(error)[:200]
        raise BundleError(f"{path}/manifest.json is invalid ({reason}); export it again") from None
    weights = weights_in(members["adaptive.onnx"], bundle.manifest["adaptive_slots"])
    for name, array in weights.items():
        if not np.isfinite(array).all():
            raise BundleError(f"{path}/adaptive.onnx is refused: {name[:60]!r} is not finite")
    for name, data in members.items():
        try:
            check_onnx(data) if name.endswith(".onnx") else read_tensors(data)
        except ValueError as error:
            raise BundleError(f"{path / name} is refused: {error}") from None
    return bundle


def check_manifest(bundle: Bundle, template_bytes: int) -> None:
    """Check types, sizes and counts of an untrusted manifest.

    Args:
        bundle: the bundle; only its manifest is read.
        template_bytes: size of adaptive.onnx.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError, ConfigError: a value is
            missing, or is not allowed.
    """
    manifest = bundle.manifest
    shapes = [level.shape for level in bundle.levels]
    n_names = len({level.name for level in bundle.levels})
    if not 1 <= len(shapes) <= _MAX_LEVELS or n_names < len(shapes):
        raise ValueError(f"it has {len(shapes)} levels with {n_names} names")
    for shape in shapes:
        if not 1 <= len(shape) <= _MAX_AXES or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"a level has shape {shape}")
    if len(shapes[-1]) != 1 or bundle.latent_axes not in AXES:
        raise ValueError(f"the feature has shape {shapes[-1]}")
    widths = [*(math.prod(shape) for shape in shapes), bundle.taps_width + 1]
    if max(widths) > _MAX_WIDTH or min(widths) < 1 or bundle.release < 0:
        raise ValueError(f"the widest level has {max(widths)} values, release is {bundle.release}")
    if not 8 <= bundle.preprocessing.size <= _MAX_SIDE:
        raise ValueError(f"the input size is {bundle.preprocessing.size} pixels")
    if type(manifest["frozen_macs"]) is not int or not isinstance(manifest["backbone"], str):
        raise ValueError("frozen_macs is not an integer, or backbone is not a string")
    at = 0
    for _, (offset, shape) in sorted(manifest["adaptive_slots"].items(), key=lambda s: s[1][0]):
        if type(offset) is not int or offset < at:
            raise ValueError("weights in adaptive.onnx overlap")
        if (
            not isinstance(shape, list)
            or len(shape) > _MAX_AXES
            or not all(type(n) is int and n >= 0 for n in shape)
        ):
            raise ValueError(f"a weight in adaptive.onnx has the shape {shape}")
        at = offset + 4 * math.prod(shape)
    if at > template_bytes:
        raise ValueError("a weight lies beyond the end of adaptive.onnx")
    values = bundle.level_values
    if values and (len(values) != len(shapes) or not all(type(name) is str for name in values)):
        raise ValueError("level_values does not hold one name for each level")
    _check_windows(bundle, template_bytes)


def _check_windows(bundle: Bundle, template_bytes: int) -> None:
    """Check the windows of a manifest; see `check_manifest`."""
    names = [level.name for level in bundle.levels]
    if bundle.windows and bundle.latent_axes != "CHW":
        raise ValueError(f"latents of the axes {bundle.latent_axes} have no windows")
    for side, window in bundle.windows.items():
        shape = window.levels[0].shape
        if not 1 <= side < bundle.latent_shape[1] or shape[1:] != (side, side):
            raise ValueError(f"a window has side {side} and shape {shape}")
        if [level.name for level in window.levels] != names:
            raise ValueError(f"the window of side {side} has other levels")
    at = bundle.manifest.get("input_side_at", [])
    if not all(type(offset) is int and 0 <= offset < template_bytes for offset in at):
        raise ValueError("input_side_at lies beyond the end of adaptive.onnx")
