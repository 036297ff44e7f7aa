"""Bundle: the exported directory that a board needs, with a digest of every file.

`reading` opens and verifies bundles, `write` makes them. Neither needs torch or onnx.

    manifest.json         schema, backbone, cut, levels, preprocessing, parity, sha256 of each file
                          and of itself
    frozen.onnx           image (B, 3, H, W) -> latent (B, C, H', W') and taps (B, T)
    adaptive.onnx         latent -> feature (B, D), with the weights as exported; a template for
                          other weights, see `Bundle.splice`

Taps are intermediate features: the outputs of some frozen blocks, average-pooled and concatenated.
The fast classifier reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.manifest import read_member
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.errors import BundleError, ConfigError
from plr_edge.replay.latent_axes import checked_axes
from plr_edge.replay.latent_codec import LatentCodec, make_codec
from plr_edge.replay.schedule import Level
from plr_edge.replay.window import Window


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: directory of the bundle.
        manifest: parsed manifest.json.
        trusted: whether its signature was checked against a key that the user trusts.
    """

    path: Path
    manifest: dict[str, Any]
    trusted: bool = False

    @property
    def name(self) -> str:
        """Human-readable name: backbone and cut."""
        return f"{self.manifest['backbone']} cut before {self.manifest['cut']}"

    @property
    def precision(self) -> str:
        """Precision of the frozen part: fp32, fp16, or int8 with its profile, e.g. `int8 u8s8`."""
        profile = self.manifest.get("int8_profile")
        precision = str(self.manifest.get("precision", "fp32"))
        return f"{precision} {profile}" if profile else precision

    @property
    def release(self) -> int:
        """Release number, which grows from one signed bundle to the next; 0 if unsigned."""
        return int(self.manifest.get("release", 0))

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the input of the frozen part."""
        return Preprocessing.from_dict(self.manifest["preprocessing"])

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """Levels of the adaptive part, the input of the classifier last."""
        return levels_from(self.manifest["levels"])

    @property
    def level_values(self) -> tuple[str, ...]:
        """Values of adaptive.onnx at which levels begin; empty in bundles of earlier releases."""
        return tuple(self.manifest.get("level_values", ()))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent; `latent_axes` says what its axes are."""
        return self.levels[0].shape

    @property
    def latent_axes(self) -> str:
        """What the axes of a latent mean: `CHW`, `HWC`, `ND`, `CT` or `D`; see `LinearCodec`."""
        return checked_axes(self.latent_shape, str(self.manifest.get("latent_axes", "")))

    @property
    def feature_width(self) -> int:
        """D, the length of the adaptive part's output."""
        return self.levels[-1].width

    @property
    def taps_width(self) -> int:
        """T, the length of the taps that the frozen part returns with the latent."""
        return int(self.manifest["taps_width"])

    @property
    def tap_shapes(self) -> list[list[int]]:
        """Shape of each tap, (C, rows, columns) or (C,). Empty for bundles of earlier releases."""
        return [list(map(int, shape)) for shape in self.manifest.get("tap_shapes", [])]

    @property
    def perception_macs(self) -> int:
        """Multiply-adds of perceiving one frame, up to the classifier."""
        return int(self.manifest["frozen_macs"]) + sum(level.macs for level in self.levels[:-1])

    @property
    def frozen_sha256(self) -> str:
        """Digest of the frozen part. Latents of different frozen parts must never be mixed."""
        return str(self.manifest["files"]["frozen.onnx"]["sha256"])

    def codec(self, bits: int = 8, pool: int | None = None, *, name: str = "linear") -> LatentCodec:
        """Return a codec for this bundle's latents.

        Args:
            bits: bits per value, 8 or 4.
            pool: side to which maps are pooled before storing; not pooled by default.
            name: name of the codec in `CODECS`.

        Raises:
            ConfigError: the name, bits or pool is not allowed.
        """
        signed = bool(self.manifest["latent_signed"])
        return make_codec(
            name, self.latent_shape, bits=bits, pool=pool, signed=signed, axes=self.latent_axes
        )

    @cached_property
    def windows(self) -> dict[int, Window]:
        """Windows of the latent maps that blocks can be trained on, by side; see `Window`."""
        return {
            int(side): Window(int(side), levels_from(levels))
            for side, levels in self.manifest.get("windows", {}).items()
        }

    @property
    def trains_blocks(self) -> bool:
        """Whether a block above the cut has weights. If none has, the classifier alone learns."""
        return any(level.weights for level in self.levels[:-1])

    def window(self, side: int | None) -> Window | None:
        """Return the window that blocks are trained on. None stands for whole latents.

        Args:
            side: its side. Half of that of the latents by default, if the bundle allows it.

        Raises:
            ConfigError: the bundle does not allow it.
        """
        whole = self.latent_shape[1] if self.latent_axes == "CHW" else 0
        if side is None:
            return self.windows.get(-(-whole // 2))
        if side in (0, whole):
            return None
        if side not in self.windows:
            sides = ", ".join(map(str, [0, *sorted(self.windows)]))
            raise ConfigError(
                f"window is {side}; {self.name} allows {sides}, where 0 stands for whole latents"
            )
        return self.windows[side]

    def trained_levels(self, side: int | None) -> tuple[Level, ...]:
        """Return the levels as training sees them; see `window`."""
        window = self.window(side)
        return self.levels if window is None else window.levels

    def with_side(self, model: bytes, side: int) -> bytes:
        """Return an adaptive part, as `splice` returns it, for windows of a side."""
        return with_input_side(model, self.manifest["input_side_at"], side)

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, and verify them again.

        Raises:
            BundleError: the file has changed since the bundle was opened.
        """
        return read_member(self.path / name, self.manifest["files"].get(name))

    def weights(self) -> dict[str, np.ndarray]:
        """Return the weights of the adaptive part as exported, float32 by name."""
        return weights_in(self.read("adaptive.onnx"), self.manifest["adaptive_slots"])

    def splice(self, weights: Mapping[str, np.ndarray]) -> bytes:
        """Return adaptive.onnx with other weights.

        The manifest holds the byte offset of each tensor in the template. The board therefore
        needs neither onnx nor torch, and the cost is that of a copy.

        Args:
            weights: all weights, float32 by state_dict name.

        Raises:
            BundleError: a name or a shape does not match the template.
        """
        return splice(self.read("adaptive.onnx"), self.manifest["adaptive_slots"], weights)


def levels_from(levels: Sequence[Mapping[str, Any]]) -> tuple[Level, ...]:
    """Return levels as a manifest holds them."""
    return tuple(Level(**{**level, "shape": tuple(level["shape"])}) for level in levels)


def weights_in(template: bytes, slots: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Return the weights in a serialised model, as views of it.

    Args:
        template: the serialised model.
        slots: byte offset and shape of each weight in it, by name.
    """
    return {
        name: np.frombuffer(template, "<f4", math.prod(shape), offset).reshape(shape)
        for name, (offset, shape) in slots.items()
    }


def with_input_side(template: bytes, at: Sequence[int], side: int) -> bytes:
    """Return a serialised model for square inputs of another side.

    Args:
        template: the serialised model.
        at: offsets of the two dimensions in it, one byte each.
        side: rows and columns of the input, 1..127.
    """
    model = bytearray(template)
    for offset in at:
        model[offset] = side
    return bytes(model)


def splice(
    template: bytes, slots: Mapping[str, Sequence[Any]], weights: Mapping[str, np.ndarray]
) -> bytes:
    """Return a serialised model with other weights; see `Bundle.splice`.

    Args:
        template: the serialised model.
        slots: byte offset and shape of each weight in it, by name.
        weights: float32 arrays by name.

    Raises:
        BundleError: a name or a shape does not match the template.
    """
    if set(weights) != set(slots):
        odd = sorted(set(weights) ^ set(slots))
        raise BundleError(
            f"weights do not fit the template: {odd[0]!r} is in only one of them; use the bundle "
            "that they were learned with"
        )
    pieces: list[Any] = []
    view, at = memoryview(template), 0
    for name, (offset, shape) in sorted(slots.items(), key=lambda slot: slot[1][0]):
        array = np.asarray(weights[name], dtype="<f4", order="C")
        if list(array.shape) != list(shape):
            raise BundleError(
                f"weight {name!r} has shape {array.shape}; the template needs {tuple(shape)}; use "
                "the bundle that it was learned with"
            )
        pieces += [view[at:offset], array.reshape(-1).data.cast("B")]
        at = offset + array.nbytes
    return b"".join([*pieces, view[at:]])
