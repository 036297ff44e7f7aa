"""Real streams: what one pass leaves, for plr-edge and for what else could be done.

All methods share the frozen part, the order of frames and one pass of its outputs, which are
computed once and kept beside the results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.errors import StreamError
from plr_edge.runtime.perception import Perception
from plr_edge.runtime.prediction import Features
from plr_edge.stream import Frame, open_stream

_CHUNK = 16
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which frames are taught, in which order, and which are held out.

    Attributes:
        pack: folder of the image pack.
        train: split that is taught.
        test: split that is held out.
        limit_per_class: of the taught frames.
        shuffled_experiences: 0 for the pack's own order; else classes are drawn into so many
            experiences by the seed, and frames are shuffled inside each.
    """

    pack: str
    train: str = "train"
    test: str = "test"
    limit_per_class: int | None = None
    shuffled_experiences: int = 0


PROTOCOLS = {
    "fruits": Protocol(pack="fruits-turntable"),
    "fruits-axes": Protocol(pack="fruits-turntable", train="axis0", test="axis1"),
    "grocery": Protocol(pack="grocery"),
    "cifar100-stream": Protocol(pack="cifar100", limit_per_class=100, shuffled_experiences=10),
}


@dataclass(frozen=True)
class Part:
    """Frames of a split, as the network as exported sees them.

    Attributes:
        seen: latents, taps and features.
        labels: (n,) class indices, in the order of first appearance in the pack.
    """

    seen: Features
    labels: np.ndarray

    def take(self, order: np.ndarray) -> Part:
        """Return frames in another order."""
        return Part(self.seen.take(order), self.labels[order])


@dataclass(frozen=True)
class Task:
    """A protocol with one seed's order of frames."""

    bundle: Bundle
    train: Part
    test: Part
    names: list[str]
    frozen_s: float


def load_parts(
    protocol: Protocol, bundle: Bundle, data: Path, cache: Path, say: Say
) -> tuple[Part, Part, list[str], float]:
    """Run both splits through a bundle's engines once, or read what an earlier run kept.

    Returns:
        The taught part, the held-out part, names of the classes, and the seconds that the frozen
        part took for the taught frames.

    Raises:
        StreamError: the pack is not there.
    """
    path = data / protocol.pack
    if not path.is_dir():
        raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
    digest = bundle.frozen_sha256[:12]
    file = cache / f"{protocol.pack}-{protocol.train}-{protocol.test}-{digest}.npz"
    if file.is_file():
        with np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
    else:
        say(f"running {path} through {bundle.name}")
        arrays = _arrays(protocol, bundle, path)
        cache.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial.npz")
        np.savez(partial, **arrays)  # type: ignore[arg-type]
        partial.replace(file)
    parts = [
        Part(Features(*(arrays[f"{split}_{n}"] for n in ("latents", "taps", "features"))),
             arrays[f"{split}_labels"])
        for split in ("train", "test")
    ]  # fmt: skip
    return parts[0], parts[1], arrays["names"].tolist(), float(arrays["frozen_s"])


def make_task(protocol: Protocol, bundle: Bundle, parts: Any, seed: int) -> Task:
    """Order the taught frames by the seed, where the protocol asks for that."""
    train, test, names, frozen_s = parts
    if protocol.shuffled_experiences:
        rng = np.random.default_rng([seed, 7])
        groups = np.array_split(rng.permutation(len(names)), protocol.shuffled_experiences)
        order = [rng.permutation(np.flatnonzero(np.isin(train.labels, group))) for group in groups]
        train = train.take(np.concatenate(order))
    return Task(bundle, train, test, names, frozen_s)


def _arrays(protocol: Protocol, bundle: Bundle, path: Path) -> dict[str, np.ndarray]:
    classifier = CombinedClassifier(bundle.taps_width, bundle.feature_width)
    perception = Perception(bundle, classifier, [])
    classes: dict[str, int] = {}
    arrays: dict[str, np.ndarray] = {}
    for part, split in (("train", protocol.train), ("test", protocol.test)):
        limit = protocol.limit_per_class if part == "train" else None
        collected: list[Features] = []
        labels: list[int] = []
        frames: list[Frame] = []
        for frame in open_stream(path, split=split, limit_per_class=limit):
            labels.append(classes.setdefault(str(frame.label), len(classes)))
            frames.append(frame)
            if len(frames) == _CHUNK:
                collected.append(perception.perceive(frames))
                frames = []
        if frames:
            collected.append(perception.perceive(frames))
        for name in ("latents", "taps", "features"):
            arrays[f"{part}_{name}"] = np.concatenate([getattr(s, name) for s in collected])
        arrays[f"{part}_labels"] = np.array(labels)
        arrays.setdefault("frozen_s", np.array(perception.frozen_s))
    return {**arrays, "names": np.array(list(classes))}
