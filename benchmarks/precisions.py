"""How fast the frozen part runs in each precision, and how far it is from PyTorch."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.results import Row, table
from plr_edge.backbones import load_backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.export.bundle_export import export_bundle
from plr_edge.export.split import split

PRECISIONS = ("fp32", "fp16", "int8")
_TIMED = ("fp32", "int8")  # fp16 is for GPUs: a processor computes it in float32
_CUT = "block14"
_WARM_UP = 10
Say = Callable[[str], None]


def compare_precisions(size: int, output: Path, runs: int, say: Say) -> Row:
    """Time the frozen part of MobileNetV2 on one image, in turns.

    Args:
        size: side of the input in pixels.
        output: folder of the bundles; missing ones are exported.
        runs: calls of each engine.
        say: called with progress.

    Returns:
        a row for eager PyTorch and for each precision with the median CPU time of one image and the
        agreement with PyTorch that the export measured, and the ratios of the times. JSON values.
    """
    bundles = {name: _bundle(name, size, output, say) for name in PRECISIONS}
    x = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    frozen, _ = split(load_backbone("mobilenet_v2", input_size=size), _CUT)
    frozen, tensor = frozen.eval(), torch.from_numpy(x)
    calls: dict[str, Callable[[], object]] = {"PyTorch": lambda: frozen(tensor)}
    for name in _TIMED:
        engine = OnnxEngine(bundles[name].read("frozen.onnx"))
        calls[name] = lambda engine=engine: engine.run(x)  # type: ignore[misc]
    torch.set_num_threads(1)
    with torch.no_grad():
        ms = _in_turns(calls, runs)
    rows = [_row(name, ms.get(name), bundles.get(name)) for name in ("PyTorch", *PRECISIONS)]
    return {
        "size": size,
        "rows": rows,
        "ratios": {
            "PyTorch / fp32": ms["PyTorch"] / ms["fp32"],
            "fp32 / int8": ms["fp32"] / ms["int8"],
        },
    }


def markdown(facts: list[Row]) -> str:
    """Return a table of all sizes and precisions, and the ratios of the times."""
    lines = [
        {
            "pixels": str(one["size"]),
            "frozen part": "eager PyTorch" if row["name"] == "PyTorch" else row["name"],
            "ms": row["ms"],
            "smallest cosine": f"{row['latent_cosine']:.4f}" if "latent_cosine" in row else "",
            "top-1 of 1,000 agrees": f"{row['top1_agreement']:.1%}"
            if "latent_cosine" in row
            else "",
            "convolutions in float": str(row.get("float_convolutions", "")),
        }
        for one in facts
        for row in one["rows"]
    ]
    ratios = "; ".join(
        f"at {one['size']} pixels " + ", ".join(f"{k} {v:.2f}" for k, v in one["ratios"].items())
        for one in facts
    )
    return f"{table(lines)}\n\nRatios of the times: {ratios}."


def _bundle(precision: str, size: int, output: Path, say: Say) -> Bundle:
    path = output / f"{precision}-{size}"
    if not path.exists():
        say(f"exporting {path}")
        backbone = load_backbone("mobilenet_v2", input_size=size)
        export_bundle(backbone, _CUT, path, precision=precision)
    return open_bundle(path)


def _in_turns(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the median milliseconds of CPU time of each call."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for i in range(_WARM_UP + runs):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if i >= _WARM_UP:
                times[name].append(time.process_time() - start)
    return {name: 1e3 * statistics.median(own) for name, own in times.items()}


def _row(name: str, ms: float | None, bundle: Bundle | None) -> Row:
    row: Row = {"name": name, "ms": ms}
    if bundle is not None:
        row |= {key: bundle.manifest["parity"][key] for key in ("latent_cosine", "top1_agreement")}
        row["float_convolutions"] = bundle.manifest["float_convolutions"]
    return row
