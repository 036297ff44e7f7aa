"""Precision of the frozen part: float32, float16, or int8 calibrated on real images.

Precision is in the graph itself: half weights between two casts, or QuantizeLinear and
DequantizeLinear nodes, which ONNX Runtime and every TensorRT from 8.6 on read alike.
"""

from __future__ import annotations

import copy
import logging
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.errors import BundleError, ConfigError

PRECISIONS = ("fp32", "fp16", "int8")
INT8_PROFILES = ("u8s8", "s8s8")
# Relu and Clip, so that what they limit is quantised once, behind them, and they vanish into the
# scale; the taps' pooling is a small product: left in float
_QUANTISED = ["Conv", "Gemm", "Add", "Relu", "Clip"]
_DOMAINS = ("", "ai.onnx")
_BATCH = 8


@dataclass(frozen=True)
class Limits:
    """How far a frozen part may be from PyTorch in float32, on images it was not calibrated on.

    Attributes:
        relative_error: largest difference of a latent's value, as a share of the largest value.
        cosine: smallest cosine of an image's latents.
        top1_agreement: share of images with the same top-1 answer after the adaptive part.
    """

    relative_error: float
    cosine: float
    top1_agreement: float


# measured with MobileNetV2 at 96 to 224 pixels on frames of the embedded film: `precisions` in
# benchmarks/results.md
LIMITS = {
    "fp32": Limits(1e-3, 0.9999, 0.99),
    "fp16": Limits(0.05, 0.999, 0.95),
    "int8": Limits(1.0, 0.95, 0.70),
}
# convolutions at the input that stay in float, tried in this order until the latent is near enough:
# the first ones of MobileNetV2 have few channels of very different ranges
_FLOAT_CONVOLUTIONS = (0, 1, 3, 5, 8)
_NEAR_ENOUGH = 0.985  # smallest cosine on the images calibrated on


def default_int8_profile() -> str:
    """Return what suits this machine's processor: unsigned activations on x86, signed elsewhere.

    On x86 signed activations are 2.4 times slower; TensorRT and Arm want them signed.
    """
    return "u8s8" if platform.machine().lower() in ("x86_64", "amd64") else "s8s8"


class HalfPart(nn.Module):
    """A part that computes in float16 between float32 edges."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = copy.deepcopy(part).half()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (B, ...) float32 to what the part returns, float32."""
        return tuple(output.float() for output in self.part(x.half()))


def quantised(model: bytes, images: np.ndarray, profile: str) -> tuple[bytes, int]:
    """Quantise a model to int8 with scales from real images, but for its first convolutions.

    As few of these stay in float as keep the latent near that in float, on the same images.

    Args:
        model: float32, serialised.
        images: (n, 3, H, W) float32, preprocessed.
        profile: `u8s8` or `s8s8`, the types of activations and weights.

    Returns:
        model: with QuantizeLinear and DequantizeLinear nodes; inputs and outputs stay float32.
        n_float: convolutions left in float.

    Raises:
        BundleError: ONNX Runtime cannot quantise it.
        ConfigError: there is no such profile, or no image.
    """
    if profile not in INT8_PROFILES:
        raise ConfigError(f"no int8 profile {profile!r}; there are {', '.join(INT8_PROFILES)}")
    if not len(images):
        raise ConfigError("int8 needs images to calibrate on; give a stream with --calibrate")
    expected = latents_of(model, images)
    best = (-1.0, b"", 0)
    for n_float in _FLOAT_CONVOLUTIONS:
        made = _quantised(model, images, profile == "s8s8", n_float)
        cosine = float(cosines(latents_of(made, images), expected).min())
        best = max(best, (cosine, made, n_float), key=lambda one: one[0])
        if cosine >= _NEAR_ENOUGH:
            break
    return best[1], best[2]


def latents_of(model: bytes, images: np.ndarray) -> np.ndarray:
    """Return the first output (n, ...) of a serialised model."""
    engine = OnnxEngine(model)
    batches = range(0, len(images), _BATCH)
    return np.concatenate([engine.run(images[i : i + _BATCH])[0] for i in batches])


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, (n,) float64, of arrays (n, ...)."""
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray((a * b).sum(1) / np.maximum(norms, 1e-30))


def _quantised(model: bytes, images: np.ndarray, signed: bool, n_float: int) -> bytes:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(
                [images[i : i + _BATCH] for i in range(0, len(images), _BATCH)]
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            part = next(self._batches, None)
            return None if part is None else {"image": part}

    source = onnx.load_from_string(model)
    convolutions = [node.name for node in source.graph.node if node.op_type == "Conv"]
    level = logging.getLogger().level
    logging.getLogger().setLevel(
        logging.ERROR
    )  # the quantiser warns of what it is given on purpose
    try:
        with tempfile.TemporaryDirectory() as folder:
            file, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            file.write_bytes(model)
            q.quantize_static(
                str(file), str(target), Reader(), nodes_to_exclude=convolutions[:n_float],
                quant_format=q.QuantFormat.QDQ, op_types_to_quantize=_QUANTISED, per_channel=True,
                activation_type=q.QuantType.QInt8 if signed else q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                extra_options={"ActivationSymmetric": signed, "WeightSymmetric": True},
            )  # fmt: skip
            return _tidied(onnx.load(str(target)), source)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"ONNX Runtime cannot quantise this network ({reason})") from error
    finally:
        logging.getLogger().setLevel(level)


def _tidied(model: onnx.ModelProto, source: onnx.ModelProto) -> bytes:
    """Keep the source's versions, and drop the domains that the quantiser adds and nothing uses."""
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in (*_DOMAINS, *used)]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = source.ir_version
    model.producer_name, model.producer_version = source.producer_name, ""
    del model.metadata_props[:]
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
