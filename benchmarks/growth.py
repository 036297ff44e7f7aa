"""Growth: what a step costs as classes and latents become many. Synthetic latents."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.results import Row, table
from benchmarks.run import rss_bytes
from plr_edge.bundle.bundle import Bundle
from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.config import LearningConfig
from plr_edge.export.adaptive import adaptive_blocks
from plr_edge.replay.latent_memory import LatentMemory
from plr_edge.replay.learner import Learner
from plr_edge.replay.schedule import apportion, make_schedule

_DIFFERENT = 512  # latents that are made; records repeat them
_AGED = 64  # features are computed so many at a time, each batch older than the next
_PER_CLASS = 16  # samples in the classifier that answers, enough for ridge to answer for it
_TAUGHT = 512  # of them at once


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured.

    Attributes:
        classes: numbers of classes, at `few` latents.
        latents: numbers of latents, at `some` classes.
        few: latents where classes grow.
        some: classes where latents grow.
        round: steps before it is another size's turn, each level as often as its share says.
        rounds: rounds, beside one to warm up.
    """

    classes: tuple[int, ...]
    latents: tuple[int, ...]
    few: int
    some: int
    round: int = 100
    rounds: int = 6


FULL = Sizes(
    classes=(10, 100, 1_000), latents=(1_000, 10_000, 100_000, 1_000_000), few=10_000, some=100
)
QUICK = Sizes(classes=(3, 6), latents=(64, 200), few=64, some=3, round=20, rounds=1)


@dataclass
class _Size:
    """A learner at one number of classes and of latents; times are CPU time."""

    classes: int
    latents: int
    learner: Learner
    rss_growth_bytes: int
    round_ms: list[float]
    macs: float = 0.0


def grow(
    bundle: Bundle, config: LearningConfig, say: Callable[[str], None], sizes: Sizes = FULL
) -> Row:
    """Measure steps at growing numbers of classes and of latents, all sizes in turns.

    Returns:
        rows, ratios of the largest to the smallest, and the exponent of time and memory fitted on a
        logarithmic scale; JSON values.
    """
    over_classes = [(k, sizes.few) for k in sizes.classes]
    over_latents = [(sizes.some, n) for n in sizes.latents]
    pairs = dict.fromkeys([*over_classes, *over_latents])
    made = {pair: _filled(bundle, config, *pair) for pair in pairs}
    for turn in range(sizes.rounds + 1):
        for size in made.values():
            _run_round(size, turn, sizes)
    rows = {pair: _row(bundle, size, say) for pair, size in made.items()}
    by_classes, by_latents = [rows[p] for p in over_classes], [rows[p] for p in over_latents]
    return {
        "by_classes": by_classes,
        "by_latents": by_latents,
        "ratios": {
            "classes": _ratio(made[over_classes[-1]], made[over_classes[0]]),
            "latents": _ratio(made[over_latents[-1]], made[over_latents[0]]),
        },
        "exponents": {
            f"{key} over {axis}": exponent([r[axis] for r in rows], [r[key] for r in rows])
            for axis, rows in (("classes", by_classes), ("latents", by_latents))
            for key in ("step_ms", "step_macs", "add_us", "bytes", "answer_us")
        },
    }


def markdown(facts: Row) -> str:
    """Return a table of all sizes and the ratios of the largest to the smallest."""
    rows = {(row["classes"], row["latents"]): row
            for row in [*facts["by_classes"], *facts["by_latents"]]}  # fmt: skip
    lines = [
        {
            "classes": f"{row['classes']:,}",
            "latents": f"{row['latents']:,}",
            "step ms": row["step_ms"],
            "MMAC a step": f"{row['step_macs'] / 1e6:.0f}",
            "sample us": row["sample_us"],
            "add us": row["add_us"],
            "answer us": row["answer_us"],
            "MB of latents": row["bytes"] / 1e6,
        }
        for row in rows.values()
    ]
    classes, latents = (
        [row[axis] for row in facts[f"by_{axis}"]] for axis in ("classes", "latents")
    )
    ratios, powers = facts["ratios"], facts["exponents"]
    return (
        f"{table(lines)}\n\n"
        f"A step at {classes[-1]:,} classes takes {ratios['classes']:.2f} times one at "
        f"{classes[0]:,}, and one at {latents[-1]:,} latents {ratios['latents']:.2f} times one at "
        f"{latents[0]:,}. The time of a step grows with exponent "
        f"{powers['step_ms over classes']:.2f} of the classes and "
        f"{powers['step_ms over latents']:.2f} of the latents, that of an answer with "
        f"{powers['answer_us over classes']:.2f} of the classes, and memory with "
        f"{powers['bytes over latents']:.2f} of the latents."
    )


def exponent(x: list[float], y: list[float]) -> float:
    """Return p of the best fit y = c x^p."""
    slope, _ = np.polyfit(np.log(x), np.log(np.maximum(y, 1e-9)), 1)
    return float(slope)


def _ratio(large: _Size, small: _Size) -> float:
    """Return the median ratio of rounds that ran one after the other."""
    return statistics.median(a / b for a, b in zip(large.round_ms, small.round_ms, strict=True))


def _filled(bundle: Bundle, config: LearningConfig, n_classes: int, n_latents: int) -> _Size:
    """Make a learner as it is after long training: everything cached, of every age."""
    rng = np.random.default_rng(0)
    codec = bundle.codec(config.bits)
    shape = (_DIFFERENT, *bundle.latent_shape)
    records = codec.encode(np.abs(rng.standard_normal(shape)).astype(np.float32))
    rss = rss_bytes()
    config = replace(config, memory_bytes=n_latents * (codec.record_bytes + 4))
    memory = LatentMemory(codec.record_bytes, config.memory_bytes)
    learner = Learner(
        adaptive_blocks(bundle), bundle.levels, memory, codec,
        make_schedule("progressive", bundle.levels), config,
    )  # fmt: skip
    for i in range(n_latents - n_classes):
        memory.add(records[i % _DIFFERENT], i % n_classes)
    kept = rss_bytes() - rss
    for c in range(n_classes):  # each class gets its row
        learner.learn_many(records[c % _DIFFERENT][None], np.array([c]))
    _age(learner, rng)
    return _Size(n_classes, n_latents, learner, kept, [])


def _age(learner: Learner, rng: np.random.Generator) -> None:
    """Compute all features that can be kept, a batch at a time, as if steps lay in between."""
    learner.restore(learner.weights(), learner.classifier(), learner.cosine.prior.numpy())
    features, reach = learner.features, learner.schedule.reach
    slots = features.representative_slots()
    batches = np.array_split(rng.permutation(slots), max(1, len(slots) // _AGED))
    age = learner.config.max_age_steps / len(batches)
    for i, batch in enumerate(batches, 1):
        features.admit(batch)
        features.at(features.deepest, batch)
        features._n_updates = [0] + [round(i * age * u / reach[-2]) for u in reach[:-1]]


def _run_round(size: _Size, turn: int, sizes: Sizes) -> None:
    """Run steps in the proportions of the schedule, so that chance decides nothing."""
    learner = size.learner
    counts = apportion(learner.schedule.shares, sizes.round)
    levels = np.random.default_rng(turn).permutation(np.repeat(np.arange(len(counts)), counts))
    cost = learner.features.cost
    before, start = cost.macs, time.process_time()  # other processes disturb it least
    for level in levels:
        learner.step(level=int(level))
    if turn:
        size.round_ms.append(1e3 * (time.process_time() - start) / sizes.round)
        size.macs += (cost.macs - before) / sizes.round / sizes.rounds


def _row(bundle: Bundle, size: _Size, say: Callable[[str], None]) -> Row:
    rng, memory = np.random.default_rng(1), size.learner.features.memory
    record, n = memory.records(slice(0, 1))[0], size.classes
    row = {
        "classes": n,
        "latents": len(memory),
        "step_ms": statistics.median(size.round_ms),
        "step_macs": size.macs,
        "sample_us": _median_us(lambda: memory.sample(48, rng), 200),
        "add_us": _median_us(lambda: memory.add(record, int(rng.integers(n))), 2000),
        "answer_us": _answer_us(bundle, n, rng),
        "bytes": memory.n_bytes,
        "rss_growth_bytes": size.rss_growth_bytes,
    }
    say("  ".join(f"{key} {value:,.4g}" for key, value in row.items()))
    return row


def _answer_us(bundle: Bundle, n_classes: int, rng: np.random.Generator) -> float:
    classifier = CombinedClassifier(bundle.taps_width, bundle.feature_width)
    labels = np.arange(_PER_CLASS * n_classes) % n_classes
    for start in range(0, len(labels), _TAUGHT):
        own = labels[start : start + _TAUGHT]
        taps = rng.standard_normal((len(own), bundle.taps_width)).astype(np.float32)
        features = rng.standard_normal((len(own), bundle.feature_width)).astype(np.float32)
        classifier.learn_many(taps, features, own)
    classifier.rehearsed = rng.standard_normal((n_classes, bundle.feature_width)).astype(np.float32)
    classifier.solve()
    return _median_us(lambda: classifier.answer_many(taps[:1], features[:1]), 50)


def _median_us(call: Callable[[], object], n: int) -> float:
    times = []
    for _ in range(n):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return 1e6 * statistics.median(times)
