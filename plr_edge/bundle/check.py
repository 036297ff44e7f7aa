"""Limits on what the manifest of a bundle says, checked before anything is built from it."""

from __future__ import annotations

import math

from plr_edge.bundle.bundle import Bundle

_MAX_LEVELS, _MAX_WIDTH, _MAX_SIDE = 64, 1 << 24, 4096


def check_facts(bundle: Bundle, template_bytes: int) -> None:
    """Check types, sizes and counts, before anything is built from them.

    Args:
        bundle: whose manifest nobody vouches for.
        template_bytes: of adaptive.onnx.

    Raises:
        ValueError, LookupError, TypeError, AttributeError, OverflowError: they are wrong.
    """
    manifest = bundle.manifest
    shapes = [level.shape for level in bundle.levels]
    if not 1 <= len(shapes) <= _MAX_LEVELS or len({level.name for level in bundle.levels}) < len(
        shapes
    ):
        raise ValueError(f"it has {len(shapes)} levels, or two of one name")
    for shape in shapes:
        if len(shape) not in (1, 3) or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"a level has the shape {shape}")
    widths = [*(math.prod(shape) for shape in shapes), bundle.taps_width + 1]
    if max(widths) > _MAX_WIDTH or min(widths) < 1 or bundle.release < 0:
        raise ValueError(f"a level is {max(widths)} values wide")
    if not 8 <= bundle.preprocessing.size <= _MAX_SIDE:
        raise ValueError(f"the input is {bundle.preprocessing.size} pixels wide")
    if type(manifest["frozen_macs"]) is not int or not isinstance(manifest["backbone"], str):
        raise ValueError("frozen_macs or backbone is of another type")
    at = 0
    for _, (offset, shape) in sorted(manifest["adaptive_slots"].items(), key=lambda s: s[1][0]):
        if type(offset) is not int or offset < at or not all(type(n) is int for n in shape):
            raise ValueError("a weight of adaptive.onnx lies upon another")
        at = offset + 4 * math.prod(shape)
    if at > template_bytes:
        raise ValueError("a weight lies beyond the end of adaptive.onnx")
