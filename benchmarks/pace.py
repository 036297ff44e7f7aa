"""Pace: frames a second while learning, end to end, beside AR1-like replay in eager PyTorch.

Both get the same images in the same chunks, taking turns after each experience. The other side runs
its frozen part as its authors do, in PyTorch, and then trains. Ours does all that `plr-edge adapt`
does: it answers each frame before it learns it, and has its label on disk.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.data.encoded import Images, Split
from benchmarks.data.packs import open_pack
from benchmarks.methods.ar1 import Ar1
from benchmarks.methods.base import batches
from benchmarks.methods.plr import PLR
from benchmarks.results import Row, table
from benchmarks.scenarios import Benchmark
from plr_edge.backbones import load_backbone
from plr_edge.bundle.bundle import Bundle
from plr_edge.config import LearningConfig
from plr_edge.errors import StreamError
from plr_edge.export.split import split as split_backbone
from plr_edge.runtime.prediction import Features
from plr_edge.runtime.session import Session
from plr_edge.stream import Frame
from plr_edge.stream.base import in_chunks

_EXPERIENCES = 10
_TEST_PER_CLASS = 20
_BATCH = 50
Say = Callable[[str], None]


@dataclass(kw_only=True)
class Side:
    """One that learns, and the seconds that each experience took it.

    Attributes:
        name: name in tables.
        learn: sees and learns a chunk.
        end: handles the end of an experience; whether it is the last.
        answers: features and latents of held-out frames -> class indices (n,).
        frozen_s: returns seconds spent in the frozen part.
        seconds: seconds of each experience.
    """

    name: str
    learn: Callable[[list[Frame]], None]
    end: Callable[[bool], None]
    answers: Callable[[Features], np.ndarray]
    frozen_s: Callable[[], float]
    seconds: list[float] = field(default_factory=list)

    def run(self, frames: list[Frame], chunk: int, *, last: bool) -> None:
        """Learn one experience and take the time."""
        start = time.perf_counter()
        for part in in_chunks(frames, chunk):
            self.learn(part)
        self.end(last)
        self.seconds.append(time.perf_counter() - start)

    def row(self, seen: Features, truth: np.ndarray, n_frames: int) -> Row:
        """Return what was measured."""
        seconds = sum(self.seconds)
        return {
            "name": self.name,
            "accuracy": float((self.answers(seen) == truth).mean()),
            "frames_per_s": n_frames / seconds,
            "ms_per_frame": 1e3 * seconds / n_frames,
            "frozen_ms_per_frame": 1e3 * self.frozen_s() / n_frames,
            "seconds": self.seconds,
        }


def ours(session: Session, classes: list[str]) -> Side:
    """Return `plr-edge adapt`, as a `Session`."""

    def answers(seen: Features) -> np.ndarray:
        parts = [session.perception.features_of(x) for x in batches(seen.latents)]
        known = np.array([classes.index(name) for name in session.learned.classes])
        answers = session.learned.classifier.answer_many(seen.taps, np.concatenate(parts))
        return np.asarray(known[answers.probabilities.argmax(1)])

    return Side(
        name="plr-edge",
        learn=session.observe_many,
        end=lambda last: session.finish() if last else None,
        answers=answers,
        frozen_s=lambda: session.perception.frozen_s,
    )


def eager_ar1(bundle: Bundle, classes: list[str], config: LearningConfig, settings: Row) -> Side:
    """Return AR1-like latent replay with its frozen part in eager PyTorch."""
    backbone = load_backbone(bundle.manifest["backbone"], input_size=bundle.preprocessing.size)
    frozen = split_backbone(backbone, bundle.manifest["cut"])[0].eval()
    none = _latents_only(np.zeros((0, *bundle.latent_shape), np.float32), np.zeros(0, np.int64))
    bundles = bundle, bundle
    benchmark = Benchmark("pace", none, none, classes, (0,), 0.0, none.labels, bundles)
    method = Ar1(benchmark, config, **settings)
    frozen_s = 0.0

    def learn(frames: list[Frame]) -> None:
        nonlocal frozen_s
        x = torch.from_numpy(bundle.preprocessing([frame.image for frame in frames]))
        start = time.perf_counter()
        with torch.no_grad():
            latents = frozen(x).numpy()
        frozen_s += time.perf_counter() - start
        method.learn(_latents_only(latents, _indices(frames, classes)))

    def answers(seen: Features) -> np.ndarray:
        labels = np.zeros(len(seen.latents), np.int64)
        return method.answers(_latents_only(seen.latents, labels))[""]

    return Side(
        name="AR1-like latent replay, eager PyTorch",
        learn=learn,
        end=lambda _: method.new_experience(),
        answers=answers,
        frozen_s=lambda: frozen_s,
    )


def compare_pace(
    bundle: Bundle, data: Path, config: LearningConfig, *, per_class: int, settings: Row, say: Say
) -> Row:
    """Run both sides over CIFAR-100 in ten experiences.

    Args:
        bundle: its cut is where the other side replays too.
        data: folder of the image packs.
        config: settings of both sides; the seed orders classes and frames.
        per_class: frames taught of each class.
        settings: settings of AR1-like replay; `epochs` of each experience.
        say: called after each experience.

    Returns:
        a row for each side, and the ratios of their times by experience; JSON values.

    Raises:
        StreamError: the images are missing.
    """
    experiences, test, classes = _frames(data, per_class, config.seed)
    ours_config = replace(config, train_ratio=PLR["train_ratio"])
    with (
        tempfile.TemporaryDirectory() as folder,
        Session(bundle, Path(folder) / "state", ours_config) as session,
    ):
        sides = ours(session, classes), eager_ar1(bundle, classes, config, settings)
        seen = encoded(bundle, test, config)
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


def markdown(facts: Row) -> str:
    """Return a table of both sides, and the ratio of their times."""
    lines = [
        {
            "": row["name"],
            "frames/s while learning": row["frames_per_s"],
            "held-out accuracy %": f"{100 * row['accuracy']:.1f}",
            "ms a frame": row["ms_per_frame"],
            "of which frozen part": row["frozen_ms_per_frame"],
        }
        for row in facts["rows"]
    ]
    return (
        f"{table(lines)}\n\nplr-edge is {facts['ratio']:.1f} times faster, median of the "
        f"experiences. AR1 makes {facts['settings']['epochs']} epochs of each experience."
    )


def encoded(bundle: Bundle, frames: list[Frame], config: LearningConfig) -> Features:
    """Run held-out frames through the bundle's frozen part, for both sides."""
    with Session(bundle, None, config) as session:
        parts = [session.perception.perceive(part) for part in in_chunks(frames, _BATCH)]
    names = ("latents", "taps", "features")
    return Features(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _frames(
    data: Path, per_class: int, seed: int
) -> tuple[list[list[Frame]], list[Frame], list[str]]:
    """Return the frames of each experience, held-out ones, and the names of the classes."""
    path = data / "cifar100"
    if not path.is_dir():
        raise StreamError(f"there is no {path}; give the folder of the image packs with --data")
    taught = list(open_pack(path, split="train", limit_per_class=per_class))
    test = list(open_pack(path, split="test", limit_per_class=_TEST_PER_CLASS))
    classes = list(dict.fromkeys(str(frame.label) for frame in taught))
    labels = _indices(taught, classes)
    rng = np.random.default_rng([seed, 7])
    experiences = []
    for group in np.array_split(rng.permutation(len(classes)), _EXPERIENCES):
        rows = rng.permutation(np.flatnonzero(np.isin(labels, group)))
        experiences.append([taught[row] for row in rows])
    return experiences, test, classes


def _indices(frames: list[Frame], classes: list[str]) -> np.ndarray:
    place = {name: i for i, name in enumerate(classes)}
    return np.array([place[str(frame.label)] for frame in frames], np.int64)


def _latents_only(latents: np.ndarray, labels: np.ndarray) -> Split:
    blank = np.zeros((len(labels), 0), np.float32)
    seen = Features(latents, blank, blank)
    return Split(seen, labels, np.arange(len(labels)), Images(lambda: ()))
