"""Precision of the frozen part: float32, float16, or int8 calibrated on real images.

The precision is part of the graph: float16 weights between two casts, or QuantizeLinear and
DequantizeLinear nodes. ONNX Runtime and TensorRT from 8.6 on read both.
"""

from __future__ import annotations

import copy
import logging
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from plr_edge.engines.onnx_engine import OnnxEngine
from plr_edge.engines.parity_limits import PARITY_LIMITS as PARITY_LIMITS
from plr_edge.engines.parity_limits import ParityLimits as ParityLimits
from plr_edge.errors import BundleError, ConfigError, one_line

PRECISIONS = ("fp32", "fp16", "int8")
INT8_PROFILES = ("u8s8", "s8s8")
# With Relu and Clip in the list, their input is quantised once, behind them, and they disappear
# into the scale. The pooling of the taps is a small product and stays in float.
_QUANTISED = ["Conv", "Gemm", "Add", "Relu", "Clip"]
_DOMAINS = ("", "ai.onnx")
_BATCH = 8


# Number of convolutions at the input that stay in float, tried in this order until the latent is
# close enough. The first ones of MobileNetV2 have few channels with very different ranges.
_FLOAT_CONVOLUTIONS = (0, 1, 3, 5, 8)
_CLOSE_ENOUGH = 0.985  # smallest cosine similarity on the calibration images


def default_int8_profile() -> str:
    """Return the profile for this machine's processor: `u8s8` on x86, `s8s8` elsewhere.

    On x86, signed activations are 2.4 times slower. TensorRT and Arm need them signed.
    """
    return "u8s8" if platform.machine().lower() in ("x86_64", "amd64") else "s8s8"


class HalfPart(nn.Module):
    """A part that computes in float16, with float32 inputs and outputs."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = copy.deepcopy(part).half()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Map (B, ...) float32 to the outputs of the part, float32."""
        return tuple(output.float() for output in self.part(x.half()))


def quantised(model: bytes, images: np.ndarray, profile: str) -> tuple[bytes, int]:
    """Quantise a model to int8, with scales from real images.

    The first convolutions stay in float: as few of them as keep the latents of the calibration
    images close to those in float.

    Args:
        model: serialised float32 model.
        images: (n, 3, H, W) float32 preprocessed images to calibrate on.
        profile: types of activations and weights, `u8s8` or `s8s8`.

    Returns:
        model: the serialised model with QuantizeLinear and DequantizeLinear nodes. Inputs and
            outputs stay float32.
        n_float: number of convolutions left in float.

    Raises:
        BundleError: ONNX Runtime cannot quantise the model.
        ConfigError: the profile is unknown, or there are no images.
    """
    if profile not in INT8_PROFILES:
        raise ConfigError(
            f"unknown int8 profile {profile!r}; choose one of {', '.join(INT8_PROFILES)}"
        )
    if not len(images):
        raise ConfigError(
            "there are no images to calibrate int8 on; give a stream with --calibrate"
        )
    expected = latents_of(model, images)
    best = (-1.0, b"", 0)
    for n_float in _FLOAT_CONVOLUTIONS:
        made = _quantised(model, images, profile == "s8s8", n_float)
        cosine = float(cosines(latents_of(made, images), expected).min())
        best = max(best, (cosine, made, n_float), key=lambda one: one[0])
        if cosine >= _CLOSE_ENOUGH:
            break
    return best[1], best[2]


def latents_of(model: bytes, images: np.ndarray) -> np.ndarray:
    """Return the first output (n, ...) of a serialised model for images (n, 3, H, W)."""
    engine = OnnxEngine(model)
    batches = range(0, len(images), _BATCH)
    return np.concatenate([engine.run(images[i : i + _BATCH])[0] for i in batches])


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the cosine similarity of each pair of rows of arrays (n, ...), (n,) float64.

    Two rows of zeros are alike.
    """
    a, b = a.reshape(len(a), -1).astype(np.float64), b.reshape(len(b), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    both_zero = ~a.any(1) & ~b.any(1)  # (n,)
    return np.where(both_zero, 1.0, (a * b).sum(1) / np.maximum(norms, 1e-30))


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
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser warns about intended settings
    try:
        with tempfile.TemporaryDirectory() as folder:
            file, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            file.write_bytes(model)
            q.quantize_static(
                str(file), str(target), Reader(), nodes_to_exclude=convolutions[:n_float],
                quant_format=q.QuantFormat.QDQ, op_types_to_quantize=_QUANTISED, per_channel=True,
                activation_type=q.QuantType.QInt8 if signed else q.QuantType.QUInt8,
                weight_type=q.QuantType.QInt8,
                extra_options={
                    "ActivationSymmetric": signed, "WeightSymmetric": True,
                    "QuantizeBias": not signed,  # TensorRT refuses an int32 DequantizeLinear
                },
            )  # fmt: skip
            return _tidied(onnx.load(str(target)), source)
    except Exception as error:
        reason = one_line(error, 200)
        raise BundleError(f"ONNX Runtime cannot quantise this network ({reason})") from error
    finally:
        logging.getLogger().setLevel(level)


def _tidied(model: onnx.ModelProto, source: onnx.ModelProto) -> bytes:
    """Restore the versions of the source, and drop unused domains that the quantiser added."""
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
