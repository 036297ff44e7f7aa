"""Unknown: every fifth class is never taught, and its frames should be told from those taught.

Measured are the score that the product decides with, each of the three that it combines, and the
confidence; and how far the confidence is from the share of right answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.data.encoded import Split
from benchmarks.methods.plr import PlrEdge
from benchmarks.results import Row, Rows, in_processes
from benchmarks.runner import Settings, make_benchmark
from benchmarks.scenarios import Scenario, without_classes
from benchmarks.suites import SUITES
from plr_edge.classifiers.mix import Mix, solved_again
from plr_edge.classifiers.mix_learner import MixLearner
from plr_edge.classifiers.mix_weights import probabilities_of
from plr_edge.classifiers.unknown_threshold import unknown_scores
from plr_edge.classifiers.views import Mirror

ASKED = (0.01, 0.02, 0.05)  # shares of the frames of known classes that may be called unknown
COMBINED = "combined"
SCORES = ("largest logit", "relative Mahalanobis", "cosine", "confidence")
N_BINS = 15
_EACH = 5  # every fifth class is held back
_CHUNK = 16
_MOST_AT_ONCE = 500

MAIN = (
    Scenario(dataset="cifar100", per_class=100),
    Scenario(dataset="grocery", order="given"),
    Scenario(dataset="fruits-axes", order="given"),
    Scenario(dataset="eth80", n_experiences=0, per_class=20),
    Scenario(dataset="mnist", n_experiences=5, per_class=20),
)
QUICK = MAIN[3:]
FULL = tuple(dict.fromkeys([*MAIN, *SUITES["compare"].full, *SUITES["streams"].full]))


def held_back(n_classes: int, seed: int) -> np.ndarray:
    """Return the indices of every fifth class; the seed says which of five to begin with."""
    return np.arange(n_classes)[(np.arange(n_classes) + seed) % _EACH == _EACH - 1]


def run_stream(scenario: Scenario, seed: int, settings: Settings) -> Row:
    """Measure one stream in one seed's order: without every fifth class, then with all of them.

    Returns:
        JSON values; see `measure`. `calibration_of_all` is that of a model taught every class.
    """
    benchmark = make_benchmark(scenario, seed, settings)
    strangers = held_back(len(benchmark.classes), seed)
    config = replace(settings.config, seed=seed)
    method = taught(PlrEdge(without_classes(benchmark, strangers), config))
    row = measure(method, benchmark.test, np.isin(benchmark.test.labels, strangers))
    every = taught(PlrEdge(benchmark, config))
    return {
        "stream": scenario.name, "seed": seed, "n_held_back": len(strangers), **row,
        "calibration_of_all": calibration(*_confidences(every, benchmark.test)),
    }  # fmt: skip


def taught(method: PlrEdge) -> PlrEdge:
    """Teach a method its whole stream, to its end."""
    teach(method)
    method.finish()
    return method


def teach(method: PlrEdge) -> None:
    """Teach a method its whole stream, but for what it does at the end."""
    n = len(method.benchmark.train.labels)
    for start in range(0, n, _CHUNK):
        method.learn(method.benchmark.train.take(np.arange(start, min(start + _CHUNK, n))))


def measure(method: PlrEdge, test: Split, strange: np.ndarray) -> Row:
    """Measure a method that was taught.

    Args:
        method: what was taught.
        test: held-out frames.
        strange: (n,) bool, frames of classes that were not taught.

    Returns:
        JSON values. `scores` has a row for each score; its shares of frames that are flagged are
        in the order of `ASKED`. Empty if too few samples were held out to fit a threshold.
    """
    learner = method.session.learned.classifier.mixing
    row: Row = {
        "n_known": int((~strange).sum()),
        "n_strangers": int(strange.sum()),
        "calibration": calibration(*_confidences(method, test.take(np.flatnonzero(~strange)))),
        "scores": {},
    }
    mix = learner.mix
    if mix is None or mix.unknown is None:
        return row
    held, tested = held_out_scores(learner), in_parts(lambda part: _scores(method, part), test)
    for i, name in enumerate(SCORES):
        flagged = [tested[:, i] < np.quantile(held[:, i], share) for share in ASKED]
        row["scores"][name] = _facts(tested[:, i], strange, flagged)
    rule = mix.unknown
    combined = ((tested[:, :3] - rule.means) / rule.spreads).mean(axis=1)
    flagged = [_flagged(method, test, share) for share in ASKED]
    row["scores"] = {COMBINED: _facts(combined, strange, flagged), **row["scores"]}
    return {**row, "n_held_out": len(held)}


def held_out_scores(learner: MixLearner) -> np.ndarray:
    """Return the scores (n, 4) of the held-out samples, by classifiers that have not learned them.

    In the order of `SCORES`. These are what the threshold of `unknown` was fitted to.
    """
    assert learner.mix is not None
    samples, labels, evaluated = learner.tails.held_out()
    rest = learner.moments.without(samples, labels)
    mix = solved_again(learner.mix, rest, learner.mirror)
    rows = samples[evaluated & (rest.counts[labels] > 0)]
    n_taps = learner.moments.n_taps
    return _all_scores(mix, rows[:, :n_taps], rows[:, n_taps:], learner.mirror)


def calibration(confidence: np.ndarray, right: np.ndarray) -> Row:
    """Return the expected calibration error over bins of equal width, and the bins.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2.

    Args:
        confidence: (n,) of the best class, 0..1.
        right: (n,) bool, whether that class was right.

    Returns:
        `error` and `accuracy`, 0..1, and `bins`: the mean confidence, the share of right answers
        and the number of frames of each bin that has any.
    """
    place = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    bins = [
        (float(confidence[own].mean()), float(right[own].mean()), int(own.sum()))
        for own in (place == i for i in range(N_BINS)) if own.any()
    ]  # fmt: skip
    error = sum(n * abs(mean - share) for mean, share, n in bins) / len(right)
    return {"error": float(error), "accuracy": float(right.mean()), "bins": bins}


def run_streams(
    scenarios: tuple[Scenario, ...],
    seeds: int | None,
    settings: Settings,
    *,
    jobs: int,
    say: Callable[[str], None],
    again: bool,
) -> list[Row]:
    """Run the missing streams, each in a process of its own; keep each row at once.

    Args:
        scenarios: the streams.
        seeds: seeds of each stream; three of the main ones and one of the others by default.
        settings: what the rows have in common.
        jobs: processes at a time.
        say: called with progress.
        again: run all of them again.
    """
    for one in {scenario.dataset: scenario for scenario in scenarios}.values():
        make_benchmark(one, 0, settings, say)
    wanted = [
        (scenario, seed)
        for seed in range(seeds or 3) for scenario in scenarios
        if seeds or seed == 0 or scenario in MAIN
    ]  # fmt: skip
    kept = Rows(settings.output / "unknown.jsonl", settings.key(), again=again)
    done = kept.of("stream", "seed")
    missing = [(one, seed) for one, seed in wanted if (one.name, seed) not in done]
    say(f"{len(missing)} of {len(wanted)} runs are missing")
    for row in in_processes([(run_stream, (*each, settings)) for each in missing], jobs):
        kept.add(row)
        auroc = row["scores"].get(COMBINED, {}).get("auroc", float("nan"))
        say(f"{row['stream']:<34} seed {row['seed']}  AUROC {auroc:.3f}")
    rows = {(row["stream"], row["seed"]): row for row in kept.rows}
    return [rows[one.name, seed] for one, seed in wanted]


def _flagged(method: PlrEdge, test: Split, share: float) -> np.ndarray:
    """Return which frames (n,) are answered with `unknown` when this share is allowed."""
    method.session.learned.classifier.mixing.allow_unknown(share)
    return in_parts(lambda part: method.answer_many(part).unknown, test)


def _facts(scores: np.ndarray, strange: np.ndarray, flagged: list[np.ndarray]) -> Row:
    known = scores[~strange]
    facts: Row = {"flagged_known": [float(each[~strange].mean()) for each in flagged]}
    if not strange.any():
        return facts
    accepted = float(np.quantile(known, 0.05))  # 95 % of the frames of known classes are above
    return {
        "auroc": float(roc_auc_score(strange, -scores)),
        "fpr_at_95_tpr": float((scores[strange] >= accepted).mean()),
        **facts,
        "flagged_strangers": [float(each[strange].mean()) for each in flagged],
        # with a threshold that gives exactly the shares asked for: how good is the score alone
        "strangers_at_exactly": [
            float((scores[strange] < np.quantile(known, share)).mean()) for share in ASKED
        ],
    }


def _scores(method: PlrEdge, part: Split) -> np.ndarray:
    learner = method.session.learned.classifier.mixing
    assert learner.mix is not None
    taps = part.seen.taps[:, : learner.moments.n_taps]
    return _all_scores(learner.mix, taps, part.seen.features, learner.mirror)


def _all_scores(
    mix: Mix, taps: np.ndarray, features: np.ndarray, mirror: Mirror | None
) -> np.ndarray:
    """Return (n, 4): the largest logit, the two of familiarity, and the largest probability."""
    parts, familiarity = mix.scores(taps, features, mirror)
    logits = np.tensordot(mix.weights, parts, 1)
    confidence = probabilities_of(logits).max(axis=1, keepdims=True)
    return np.concatenate([unknown_scores(logits, familiarity), confidence], axis=1)


def _confidences(method: PlrEdge, test: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence (n,) of the product's answers, and which are right (n,)."""
    known = method.known_classes()

    def answers(part: Split) -> np.ndarray:
        odds = method.answer_many(part).probabilities
        right = known[odds.argmax(1)] == part.labels
        return np.stack([odds.max(1), right], axis=1)

    both = in_parts(answers, test)
    return both[:, 0].astype(float), both[:, 1].astype(bool)


def in_parts(function: Callable[[Split], np.ndarray], split: Split) -> np.ndarray:
    """Call a function with a few hundred frames of a split at a time; return all its rows."""
    starts = range(0, len(split.labels), _MOST_AT_ONCE)
    return np.concatenate([function(split.take(slice(i, i + _MOST_AT_ONCE))) for i in starts])
