"""Pace: frames a second while learning, end to end, beside AR1-like latent replay in eager PyTorch.

Both get the same images in the same chunks, an experience each in turns. The other runs its frozen
part as its authors do, in PyTorch, and then trains; ours does all that `plr-edge adapt` does: it
answers each frame before it learns it, and has its label on disk.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.compare import read_tuned
from benchmarks.contenders import PLR, contenders
from benchmarks.datasets import Images, Part
from benchmarks.scenarios import Task
from plr_edge.backbones import load_backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.export.split import split
from plr_edge.runtime.prediction import Features
from plr_edge.runtime.session import Session
from plr_edge.stream import Frame, open_stream

PEER = "AR1-like latent replay"
_EXPERIENCES = 10
_TEST_PER_CLASS = 20
_BATCH = 50
Row = dict[str, Any]
Say = Callable[[str], None]


class _Side(ABC):
    """One that learns, and the seconds that each experience took it."""

    name: str
    frozen_s = 0.0  # of them, in the frozen part

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def run(self, frames: list[Frame], chunk: int, *, last: bool) -> None:
        """Take one experience, and the time."""
        start = time.perf_counter()
        for at in range(0, len(frames), chunk):
            self.learn(frames[at : at + chunk])
        self.end(last=last)
        self.seconds.append(time.perf_counter() - start)

    def row(self, seen: Features, truth: np.ndarray, n_frames: int) -> Row:
        """Return the figures."""
        seconds = sum(self.seconds)
        return {
            "name": self.name,
            "accuracy": float((self.answers(seen) == truth).mean()),
            "frames_per_s": n_frames / seconds,
            "ms_per_frame": 1e3 * seconds / n_frames,
            "frozen_ms_per_frame": 1e3 * self.frozen_s / n_frames,
            "seconds": self.seconds,
        }

    @abstractmethod
    def learn(self, frames: list[Frame]) -> None:
        """See and learn a chunk."""

    @abstractmethod
    def end(self, *, last: bool) -> None:
        """Hear that an experience has ended."""

    @abstractmethod
    def answers(self, seen: Features) -> np.ndarray:
        """Answer held-out frames with class indices (n,)."""


class _Ours(_Side):
    name = "plr-edge"

    def __init__(self, session: Session, classes: list[str]) -> None:
        super().__init__()
        self._session, self._classes = session, classes

    def learn(self, frames: list[Frame]) -> None:
        self._session.observe_many(frames)

    def end(self, *, last: bool) -> None:
        if last:
            self._session.finish()
        self.frozen_s = self._session.perception.frozen_s

    def answers(self, seen: Features) -> np.ndarray:
        session = self._session
        features = _concatenated(session.perception.features_of, seen.latents)
        known = np.array([self._classes.index(name) for name in session.learned.classes])
        return known[session.learned.classifier.answer_many(seen.taps, features)[0].argmax(1)]


class _Peer(_Side):
    name = f"{PEER}, eager PyTorch"

    def __init__(
        self, bundle: Bundle, classes: list[str], config: LearningConfig, settings: dict[str, Any]
    ) -> None:
        super().__init__()
        self._bundle, self._classes = bundle, classes
        backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
        self._frozen = split(backbone, bundle.manifest["cut"])[0].eval()
        nothing = _part(np.zeros((0, *bundle.latent_shape), np.float32), np.zeros(0, np.int64))
        task = Task("pace", bundle, bundle, nothing, nothing, classes, (0,), 0.0, nothing.labels)
        self._contender = contenders()[PEER](task, config, **settings)

    def learn(self, frames: list[Frame]) -> None:
        x = torch.from_numpy(self._bundle.preprocessing([frame.image for frame in frames]))
        start = time.perf_counter()
        with torch.no_grad():
            latents = self._frozen(x).numpy()
        self.frozen_s += time.perf_counter() - start
        self._contender.learn(_part(latents, _indices(frames, self._classes)))

    def end(self, *, last: bool) -> None:
        self._contender.finish() if last else self._contender.new_experience()

    def answers(self, seen: Features) -> np.ndarray:
        labels = np.zeros(len(seen.latents), np.int64)
        return self._contender.answers(_part(seen.latents, labels))[""]


def compare_pace(
    bundle: Bundle, data: Path, output: Path, config: LearningConfig, *, per_class: int,
    epochs: int, say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Run both sides over CIFAR-100 in ten experiences.

    Args:
        bundle: its cut is where the other one replays too.
        data: folder of the image packs.
        output: where `bench compare --tune` may have left the rate that it chose.
        config: of both; the seed orders classes and frames.
        per_class: frames taught of each class.
        epochs: of the other one, over each experience.
        say: is told of each experience.

    Returns:
        a row a side, and the ratios of their times, experience by experience; fits JSON.

    Raises:
        StreamError: the images are not there.
    """
    experiences, test, classes = _frames(data, per_class, config.seed)
    settings = {"epochs": epochs, **read_tuned(output).get(PEER, {})}
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(
            bundle, Path(folder) / "state", replace(config, train_ratio=PLR["train_ratio"])
        ) as session,
    ):
        sides = _Ours(session, classes), _Peer(bundle, classes, config, settings)
        seen = _seen(bundle, test, config)
        for i, frames in enumerate(experiences):
            for side in sides if i % 2 else sides[::-1]:
                side.run(frames, config.chunk, last=i == len(experiences) - 1)
            say(f"experience {i + 1}: {sides[0].seconds[-1]:.1f} s, {sides[1].seconds[-1]:.1f} s")
        n_frames = sum(len(frames) for frames in experiences)
        rows = [side.row(seen, _indices(test, classes), n_frames) for side in sides]
    ratios = [b / a for a, b in zip(sides[0].seconds, sides[1].seconds, strict=True)]
    return {
        "seed": config.seed,
        "per_class": per_class,
        "settings": settings,
        "rows": rows,
        "ratios": ratios,
        "ratio": statistics.median(ratios),
    }


def _frames(
    data: Path, per_class: int, seed: int
) -> tuple[list[list[Frame]], list[Frame], list[str]]:
    """Return the frames of each experience, held-out ones, and the names of the classes."""
    path = data / "cifar100"
    if not path.is_dir():
        raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
    taught = list(open_stream(path, split="train", limit_per_class=per_class))
    test = list(open_stream(path, split="test", limit_per_class=_TEST_PER_CLASS))
    classes = list(dict.fromkeys(str(frame.label) for frame in taught))
    labels = _indices(taught, classes)
    rng = np.random.default_rng([seed, 7])
    experiences = []
    for group in np.array_split(rng.permutation(len(classes)), _EXPERIENCES):
        rows = rng.permutation(np.flatnonzero(np.isin(labels, group)))
        experiences.append([taught[row] for row in rows])
    return experiences, test, classes


def _seen(bundle: Bundle, frames: list[Frame], config: LearningConfig) -> Features:
    """Run held-out frames through the bundle's frozen part, for both sides."""
    with Session(bundle, None, config) as session:
        see = session.perception.see
        parts = [see(frames[i : i + _BATCH]) for i in range(0, len(frames), _BATCH)]
    names = ("latents", "taps", "features")
    return Features(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _indices(frames: list[Frame], classes: list[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place[str(frame.label)] for frame in frames], np.int64)


def _part(latents: np.ndarray, labels: np.ndarray) -> Part:
    """Return frames of which only the latents are known."""
    blank = np.zeros((len(labels), 0), np.float32)
    return Part(Features(latents, blank, blank), labels, np.arange(len(labels)), Images(lambda: ()))


def _concatenated(call: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    return np.concatenate([call(x[i : i + _BATCH]) for i in range(0, len(x), _BATCH)])
