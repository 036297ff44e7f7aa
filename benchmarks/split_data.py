"""Data of the class-incremental splits: latents computed once and kept beside the results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.packs import open_pack
from plr_edge.backbones import load_backbone
from plr_edge.errors import ConfigError, StreamError
from plr_edge.stream import Frame

_BATCH = 500
Say = Callable[[str], None]


@dataclass(frozen=True)
class Split:
    """Latents of both parts, (n, D) float32, and class indices in the order of arrival."""

    x: torch.Tensor
    y: np.ndarray
    test_x: torch.Tensor
    test_y: np.ndarray
    n_experiences: int

    @property
    def n_classes(self) -> int:
        """Classes in all."""
        return int(self.y.max()) + 1

    def ids(self, experience: int) -> np.ndarray:
        """Return the indices of an experience's training samples."""
        each = self.n_classes // self.n_experiences
        return np.flatnonzero(self.y // each == experience)

    def ordered(self, seed: int) -> Split:
        """Return the same with classes numbered in an order drawn by the seed."""
        rank = np.random.default_rng([seed, 7]).permutation(self.n_classes)
        return replace(self, y=rank[self.y], test_y=rank[self.test_y])


def load_cifar100(data: Path, weights: Path | None, cache: Path, say: Say) -> Split:
    """Run CIFAR-100 through the frozen conv part of BI-R, or read what an earlier run kept."""
    if weights is None:
        raise ConfigError("give the weights of bir_c3 with --weights FILE.safetensors")
    file = cache / "cifar100-bir_c3.npz"
    if not file.is_file():
        say("running cifar100 through bir_c3")
        network = load_backbone("bir_c3", weights=weights)

        def encode(images: list[np.ndarray]) -> np.ndarray:
            with torch.no_grad():
                return network.blocks(torch.from_numpy(network.preprocessing(images))).numpy()

        _keep(file, _encoded(data / "cifar100", encode))
    return _read(file, 10)


def load_mnist(data: Path, weights: Path | None, cache: Path, say: Say) -> Split:
    """Read MNIST; its pixels, halved in each direction, are the latents."""
    file = cache / "mnist-14x14.npz"
    if not file.is_file():
        say("reading mnist")

        def encode(images: list[np.ndarray]) -> np.ndarray:
            pixels = np.stack(images)[..., 0].astype(np.float32) / 255.0
            return pixels.reshape(len(images), 14, 2, 14, 2).mean((2, 4)).reshape(len(images), -1)

        _keep(file, _encoded(data / "mnist", encode))
    return _read(file, 5)


SPLITS = {"cifar100": load_cifar100, "mnist": load_mnist}


def _encoded(path: Path, encode: Callable[[list[np.ndarray]], np.ndarray]) -> dict[str, np.ndarray]:
    if not path.is_dir():
        raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
    names: dict[str, int] = {}
    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        latents, labels = [], []
        frames: list[Frame] = []
        for frame in open_pack(path, split=part):
            labels.append(names.setdefault(str(frame.label), len(names)))
            frames.append(frame)
            if len(frames) == _BATCH:
                latents.append(encode([f.image for f in frames]).astype(np.float16))
                frames = []
        if frames:
            latents.append(encode([f.image for f in frames]).astype(np.float16))
        arrays[f"{part}_x"], arrays[f"{part}_y"] = np.concatenate(latents), np.array(labels)
    return arrays


def _keep(file: Path, arrays: dict[str, np.ndarray]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def _read(file: Path, n_experiences: int) -> Split:
    with np.load(file, allow_pickle=False) as kept:
        x, test_x = (torch.from_numpy(kept[f"{p}_x"].astype(np.float32)) for p in ("train", "test"))
        return Split(x, kept["train_y"], test_x, kept["test_y"], n_experiences)
