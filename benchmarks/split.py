"""Class-incremental splits with generated rehearsal: PLR, Internal Replay and what else there is.

Protocol of Brain-Inspired Replay (van de Ven et al., 2020): classes in ten experiences drawn by the
seed, latents of a frozen part computed once, a fully connected classifier, all classes seen so far
to choose from. `PROFILES` says what is reduced against the paper.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from benchmarks.baselines import RandomFeatureRidge, VaeClassifier
from benchmarks.split_data import Split
from plr_edge.classifiers import ClassMeans, Ridge, StreamingLda
from plr_edge.config import LearningConfig
from plr_edge.generative.config import GenerativeConfig
from plr_edge.generative.learner import GenerativeLearner
from plr_edge.generative.mlp import MlpClassifier
from plr_edge.meters import find_power_meters
from plr_edge.replay.latent_codec import LatentCodec
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.schedule import fully_connected, make_schedule

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How much of the paper's effort is spent.

    Attributes:
        hidden: widths of the hidden layers.
        batch: new samples in a step, and rehearsed ones.
        iterations: steps in an experience.
        lr: of Adam.
    """

    hidden: tuple[int, ...]
    batch: int
    iterations: int
    lr: float


PROFILES = {
    "quick": Profile(hidden=(400, 400), batch=128, iterations=100, lr=1e-3),
    "paper": Profile(hidden=(2000, 2000), batch=256, iterations=5000, lr=1e-4),
}


def run_method(name: str, split: Split, seed: int, profile: Profile) -> Row:
    """Run one method over a split.

    Returns:
        final accuracy, that of each experience at the end, mean accuracy over classes seen after
        each, seconds and multiply-adds by part, joules where a counter can be read (testing
        included), bytes kept; facts that fit JSON.
    """
    torch.set_num_threads(1)
    start = time.perf_counter()
    meters, _ = find_power_meters()
    for meter in meters:
        meter.start()
    row = METHODS[name](split.ordered(seed), seed, profile)
    totals = [reading.total_mj for reading in [meter.stop() for meter in meters]]
    row["joules"] = sum(t for t in totals if t is not None) / 1e3 if any(totals) else None
    answers = row.pop("answers")
    each = split.n_classes // split.n_experiences
    truth = split.ordered(seed).test_y
    right = answers == truth
    row["accuracy"] = float(right.mean())
    row["per_experience"] = [
        float(right[truth // each == e].mean()) for e in range(split.n_experiences)
    ]
    row.setdefault("wall_s", time.perf_counter() - start)
    return {"method": name, "seed": seed, **row}


def _generative(*, fast: bool = False, **changes: Any) -> Callable[[Split, int, Profile], Row]:
    def run(split: Split, seed: int, profile: Profile) -> Row:
        config = GenerativeConfig(
            hidden=profile.hidden, batch=profile.batch, rehearsed=profile.batch, lr=profile.lr,
            seed=seed,
        )  # fmt: skip
        config = replace(config, **changes)
        learner = GenerativeLearner(split.x.shape[1], config)
        rng = np.random.default_rng([seed, 3])
        y, curve, drift = torch.from_numpy(split.y), [], []
        ridge, ridge_s = RandomFeatureRidge(split.x.shape[1]), 0.0
        probe = split.test_x[split.test_y < split.n_classes // split.n_experiences][:200]
        for e in range(split.n_experiences):
            n_classes = (e + 1) * split.n_classes // split.n_experiences
            learner.begin_experience(n_classes, split.n_classes, profile.iterations)
            ids = split.ids(e)
            for _ in range(profile.iterations):
                batch = torch.from_numpy(rng.choice(ids, config.batch))
                learner.step(split.x[batch], y[batch])
            learner.end_experience(split.x[ids], y[ids])
            if fast:
                start = time.perf_counter()
                ridge.learn_many(split.x[ids].numpy(), split.y[ids])
                ridge_s += time.perf_counter() - start
            curve.append([sum(learner.costs.seconds.values()), _accuracy_so_far(learner, split, e)])
            drift.append(_features(learner, probe))
        answers = learner.predict_many(split.test_x)
        if fast:
            with torch.no_grad():
                scores = _standardised(learner.classifier(split.test_x).numpy())
            scores += _standardised(ridge.scores_many(split.test_x.numpy()))
            answers = scores.argmax(1)
        return {
            "answers": answers,
            "curve": curve,
            "drift": _drift(drift),
            "wall_s": sum(learner.costs.seconds.values()) + ridge_s,
            "seconds": learner.costs.seconds,
            "macs": learner.costs.macs,
            "n_steps": learner.n_steps,
            "kept_bytes": learner.generator.n_bytes,
            "shares": list(learner.schedule.shares),
        }

    return run


def _features(learner: GenerativeLearner, probe: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        return learner.classifier.features(probe)[1:]


def _drift(snapshots: list[list[torch.Tensor]]) -> list[float]:
    """1 - cosine of each hidden layer's features between the first and the last experience."""
    pairs = zip(snapshots[0], snapshots[-1], strict=True)
    return [float((1 - functional.cosine_similarity(a, b)).mean()) for a, b in pairs]


def _accuracy_so_far(learner: GenerativeLearner, split: Split, e: int) -> float:
    seen = split.test_y < (e + 1) * split.n_classes // split.n_experiences
    return float((learner.predict_many(split.test_x[seen]) == split.test_y[seen]).mean())


def _generative_classifier(split: Split, seed: int, profile: Profile) -> Row:
    classifier = VaeClassifier(split.x.shape[1], seed=seed)
    start = time.perf_counter()
    for e in range(split.n_experiences):
        ids = split.ids(e)
        classifier.learn_many(split.x[ids].numpy(), split.y[ids])
    wall_s = time.perf_counter() - start
    answers = classifier.scores_many(split.test_x.numpy()).argmax(1)
    return {"answers": answers, "wall_s": wall_s, "kept_bytes": classifier.n_bytes}


def _closed_form(make: Callable[[int], Any]) -> Callable[[Split, int, Profile], Row]:
    def run(split: Split, seed: int, profile: Profile) -> Row:
        classifier = make(split.x.shape[1])
        for e in range(split.n_experiences):
            ids = split.ids(e)
            classifier.learn_many(split.x[ids].numpy(), split.y[ids])
        return {"answers": classifier.scores_many(split.test_x.numpy()).argmax(1)}

    return run


def _stored(per_class: int | None, fast: bool = False) -> Callable[[Split, int, Profile], Row]:
    """PLR in the step form on stored latents, 8 bit; with the fast classifier on top if wanted.

    `per_class` None takes as many as fit into the bytes of the generator's parameters.
    """

    def run(split: Split, seed: int, profile: Profile) -> Row:
        widths = [split.x.shape[1], *profile.hidden]
        codec = LatentCodec(shape=(widths[0],), bits=8)
        n = per_class or _generator_bytes(widths) // (codec.record_bytes + 4) // split.n_classes
        budget = n * split.n_classes * (codec.record_bytes + 4)
        torch.manual_seed(seed)
        config = LearningConfig(
            schedule="progressive", seed=seed, new_per_step=profile.batch, classifier_lr=0.05,
            rehearsed_per_step=profile.batch, blocks_lr=0.02, max_age_steps=50,
        )  # fmt: skip
        blocks = nn.Sequential(*MlpClassifier(widths).blocks)
        levels = fully_connected([*widths, split.n_classes])
        memory = LatentMemory(codec.record_bytes, budget, seed)
        schedule = make_schedule(config.schedule, levels)
        learner = Learner(blocks, levels, memory, codec, schedule, config)
        ridge, start = RandomFeatureRidge(widths[0]), time.perf_counter()
        for e in range(split.n_experiences):
            ids = np.random.default_rng([seed, e]).permutation(split.ids(e))
            for chunk in np.array_split(ids, profile.iterations):
                latents = split.x[chunk].numpy()
                learner.learn_many(codec.encode(latents), split.y[chunk])
                learner.step()
            if fast:
                ridge.learn_many(split.x[ids].numpy(), split.y[ids])
        wall_s, cost = time.perf_counter() - start, learner.features.cost
        with torch.no_grad():
            scores = learner.scores_many(learner.blocks(split.test_x).numpy())
        if fast:
            scores = _standardised(scores) + _standardised(ridge.scores_many(split.test_x.numpy()))
        return {
            "answers": scores.argmax(1),
            "wall_s": wall_s,
            "macs": {"train": cost.train_macs, "refresh": cost.refresh_macs},
            "n_steps": sum(cost.steps_per_level),
            "kept_bytes": memory.n_bytes,
            "shares": list(schedule.shares),
        }

    return run


def _standardised(scores: np.ndarray) -> np.ndarray:
    centred = scores - scores.mean(1, keepdims=True)
    return np.asarray(centred / centred.std(1, keepdims=True))


def _generator_bytes(widths: list[int]) -> int:
    config = GenerativeConfig(hidden=tuple(widths[1:]))
    return GenerativeLearner(widths[0], config).generator.n_bytes


def _plain(joint: bool) -> Callable[[Split, int, Profile], Row]:
    """Adam on the new samples alone: joint over all classes at once, or naive, one by one."""

    def run(split: Split, seed: int, profile: Profile) -> Row:
        torch.manual_seed(seed)
        rng = np.random.default_rng([seed, 3])
        classifier = MlpClassifier([split.x.shape[1], *profile.hidden])
        classifier.grow(split.n_classes)
        optimizer = torch.optim.Adam(classifier.parameters(), lr=profile.lr)
        y = torch.from_numpy(split.y)
        for e in range(split.n_experiences):
            ids = np.arange(len(split.y)) if joint else split.ids(e)
            n_seen = split.n_classes if joint else (e + 1) * split.n_classes // split.n_experiences
            for _ in range(profile.iterations):
                batch = torch.from_numpy(rng.choice(ids, profile.batch))
                optimizer.zero_grad()
                logits = classifier(split.x[batch])[:, :n_seen]
                functional.cross_entropy(logits, y[batch]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        with torch.no_grad():
            return {"answers": classifier(split.test_x).argmax(1).numpy()}

    return run


# the authors' generator needs thousands of steps; these three make one of a hundred usable
_MENDED: dict[str, Any] = {"fitted_modes": True, "residual": True, "gated_share": 0.6}
_STEPS: dict[str, Any] = {"form": "steps", "truncate": True, "same_level_targets": True}
_GAUSSIAN: dict[str, Any] = {
    "form": "steps",
    "truncate": True,
    "generator": "gaussian",
    "recompute": True,
    "targets": "classes",
}
_ASCENDING: dict[str, Any] = {
    **_GAUSSIAN,
    "level_order": "ascending",
    "unbias": "inverse rate",
}
_BI_R: dict[str, Any] = {"feedback": True, "gated_share": 0.7}

METHODS: dict[str, Callable[[Split, int, Profile], Row]] = {
    "naive": _plain(joint=False),
    "internal (authors' form)": _generative(),
    "plr basic (authors' form)": _generative(schedule="basic"),
    "bi-r": _generative(**_BI_R),
    "internal, mended": _generative(**_MENDED),
    "plr basic, mended slices": _generative(schedule="basic", **_MENDED),
    "plr basic, mended steps": _generative(schedule="basic", **_MENDED, **_STEPS),
    "plr layer_idx, mended steps": _generative(
        schedule="layer_idx", generator_every=4, **_MENDED, **_STEPS
    ),
    "plr cumulative_weights, mended steps": _generative(
        schedule="cumulative_weights", generator_every=4, **_MENDED, **_STEPS
    ),
    "internal, mended, feedback": _generative(feedback=True, **_MENDED),
    "plr basic, mended steps, feedback": _generative(
        schedule="basic", feedback=True, generator_levels="drawn", **_MENDED, **_STEPS
    ),
    "internal, gaussian": _generative(**_GAUSSIAN),
    "plr basic, gaussian": _generative(schedule="basic", **_GAUSSIAN),
    "plr basic, gaussian ascending": _generative(schedule="basic", **_ASCENDING),
    "plr layer_idx, gaussian": _generative(schedule="layer_idx", **_GAUSSIAN),
    "plr layer_idx, gaussian + fast": _generative(fast=True, schedule="layer_idx", **_GAUSSIAN),
    "plr stored, 2 a class": _stored(2),
    "plr stored, 5 a class": _stored(5),
    "plr stored, 10 a class": _stored(10),
    "plr stored, 20 a class": _stored(20),
    "plr stored, generator's bytes": _stored(None),
    "plr stored + fast, generator's bytes": _stored(None, fast=True),
    "class means": _closed_form(ClassMeans),
    "streaming LDA": _closed_form(StreamingLda),
    "ridge": _closed_form(Ridge),
    "random-feature ridge": _closed_form(RandomFeatureRidge),
    "generative classifier": _generative_classifier,
    "joint": _plain(joint=True),
}
