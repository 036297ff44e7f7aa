"""Resize: an axis at a time, so that each coordinate rule of ONNX is one line. Needs torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from plr_edge.graph.call import Call, Run

# place in the input of each place i of the output, from the sizes n and m and the scale m / n
_PLACES: dict[str, Callable[[np.ndarray, int, int, float], np.ndarray]] = {
    "half_pixel": lambda i, n, m, scale: (i + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda i, n, m, scale: (i + 0.5) / scale - 0.5 if m > 1 else 0.0 * i,
    "align_corners": lambda i, n, m, scale: i * (n - 1) / max(m - 1, 1),
    "asymmetric": lambda i, n, m, scale: i / scale,
}
_NEAREST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(call: Call) -> Run:
    mode = call.get("mode", "nearest")
    places = _PLACES.get(call.get("coordinate_transformation_mode", "half_pixel"))
    nearest = _NEAREST.get(call.get("nearest_mode", "round_prefer_floor"))
    odd = [name for name in ("antialias", "exclude_outside") if call.get(name, 0)]
    if call.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        odd.append("keep_aspect_ratio_policy")
    if mode not in ("nearest", "linear") or places is None or nearest is None or odd:
        raise call.refuses(f"mode {mode!r} and {', '.join(odd) or 'its coordinates'}")
    axes, round_to = call.get("axes"), nearest
    at = 2 if call.opset >= 11 else 1
    scales, sizes = call.constant(at), call.ints(3)

    def run(x: torch.Tensor, *given: torch.Tensor | None) -> torch.Tensor:
        new = sizes
        if new is None and len(given) > 2 and given[2] is not None:
            new = [int(n) for n in given[2].tolist()]
        chosen = axes if axes is not None else range(x.ndim)
        for position, axis in enumerate(chosen):
            n = x.shape[axis]
            if new is not None and len(new):
                m, scale = new[position], new[position] / n
            else:
                factors = scales if scales is not None else given[at - 1]
                scale = float(factors[position])  # type: ignore[index]
                m = int(np.floor(n * scale))
            if m != n or scale != 1.0:
                x = _along(x, axis, places(np.arange(m), n, m, scale), mode, round_to)
        return x

    return run


def _along(
    x: torch.Tensor, axis: int, places: np.ndarray, mode: str,
    nearest: Callable[[np.ndarray], np.ndarray],
) -> torch.Tensor:  # fmt: skip
    """Return x with the values at places (m,) of an axis."""
    last = x.shape[axis] - 1
    if mode == "nearest":
        index = np.clip(nearest(places), 0, last).astype(np.int64)
        return x.index_select(axis, torch.from_numpy(index))
    places = np.clip(places, 0, last)
    low = np.minimum(np.floor(places), max(last - 1, 0)).astype(np.int64)
    share = torch.from_numpy(places - low).to(x.dtype)
    share = share.reshape([-1] + [1] * (x.ndim - 1 - axis))
    high = torch.from_numpy(np.minimum(low + 1, last))
    below = x.index_select(axis, torch.from_numpy(low))
    return below + (x.index_select(axis, high) - below) * share


RESIZING: dict[str, Callable[[Call], Run]] = {"Resize": _resize, "Upsample": _resize}
