"""Frozen networks that turn frames into latents and features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from plr_edge.backbones import load_backbone
from plr_edge.backbones.base import Backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import ConfigError
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.prediction import Features
from plr_edge.stream import Frame

MOBILENET, BIR, PIXELS = "mobilenet_v2", "bir_c3", "pixels"
# multiply-adds of what runs before vectors for one frame: five convolutions of 32x32 images
FROZEN_MACS = {BIR: 5_160_960, PIXELS: 0}
_BIR_WEIGHTS = Path("bir-c3-5x16-cifar10", "model.safetensors")


@dataclass(frozen=True)
class Encoder:
    """What runs before every method.

    Attributes:
        name: part of the cache's name; differs if the outputs do.
        encode: frames -> latents (n, C, H, W) or (n, D), taps (n, T), features (n, F), float32.
        chunk: frames at a time.
    """

    name: str
    encode: Callable[[Sequence[Frame]], Features]
    chunk: int


def bundle_encoder(bundle: Bundle) -> Encoder:
    """Run a bundle's engines, as the robot does."""
    perception = Perception(bundle)
    return Encoder(bundle.frozen_sha256[:12], lambda frames: perception.perceive(list(frames)), 16)


def bir_encoder(weights: Path | None) -> Encoder:
    """Run the convolutions of Brain-Inspired Replay, pretrained on CIFAR-10; latents are vectors.

    Args:
        weights: the file, or the folder that holds `bir-c3-5x16-cifar10/`.

    Raises:
        ConfigError: by `encode`, if there are no weights.
    """

    @cache
    def network() -> Backbone:
        if weights is None:
            raise ConfigError("give the weights of bir_c3 with --weights FILE.safetensors")
        file = weights / _BIR_WEIGHTS if weights.is_dir() else weights
        return load_backbone("bir_c3", weights=file)

    def encode(frames: Sequence[Frame]) -> Features:
        with torch.no_grad():
            x = torch.from_numpy(network().preprocessing([frame.image for frame in frames]))
            return _flat(network().blocks(x).numpy())

    return Encoder("bir_c3", encode, 500)


def pixel_encoder() -> Encoder:
    """Halve 28x28 images in both directions; the pixels are the latents."""

    def encode(frames: Sequence[Frame]) -> Features:
        pixels = np.stack([frame.image for frame in frames])[..., 0].astype(np.float32) / 255.0
        halved = pixels.reshape(len(frames), 14, 2, 14, 2).mean((2, 4))
        return _flat(halved.reshape(len(frames), -1))

    return Encoder("pixels-14", encode, 500)


def _flat(x: np.ndarray) -> Features:
    return Features(x, np.zeros((len(x), 0), np.float32), np.zeros((len(x), 0), np.float32))
