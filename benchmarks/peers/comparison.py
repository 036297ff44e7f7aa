"""Each peer's method beside ours of the same name and settings, on the same features."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.methods.closed_forms import NearestMean
from benchmarks.methods.scikit import NaiveBayes, NearestNeighbours
from benchmarks.methods.softmax import Softmax
from benchmarks.peers.environments import PEERS, Peer, PeerMissing, python_of
from benchmarks.peers.exchange import CHUNK, Features, row
from benchmarks.results import Row, table
from benchmarks.scenarios import Benchmark
from plr_edge.classifiers.lda import StreamingLda

_LIMIT_S = 3600
_RIVERS_LEAST = 1e-9
Say = Callable[[str], None]


class RiverBayes(NaiveBayes):
    """The same sums with River's densities: 1e-9 added, unbiased variances, class priors."""

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return log likelihoods; see `FeatureClassifier`."""
        counts, x = self.model.class_count_, np.asarray(features, np.float64)
        scores = np.full((len(features), len(counts)), -np.inf)
        for c in np.flatnonzero(counts):
            n, mean = counts[c], self.model.theta_[c]
            variance = np.maximum(self.model.var_[c], 0) * n / max(n - 1, 1)
            known = variance > 0
            spread = np.where(known, variance, 1.0)
            density = np.exp(-((x - mean) ** 2) / (2 * spread)) / np.sqrt(2 * np.pi * spread)
            scores[:, c] = np.log(_RIVERS_LEAST + density * known).sum(1)
            scores[:, c] += np.log(n / counts.sum())
        return scores


# with the peers' settings: what is checked is that the same method gives the same accuracy
OURS: dict[str, Callable[[int, int], Any]] = {
    "nearest class mean": NearestMean,
    # Avalanche's 1e-4 over the mean variance of these features
    "streaming LDA": lambda width, _: StreamingLda(width, shrinkage=1.4e-4),
    "naive Bayes": RiverBayes,
    "k nearest neighbours": lambda width, n_classes: NearestNeighbours(
        width, n_classes, choices=(5,), n_bytes=10**8, equal_votes=True
    ),
    "feature replay": Softmax,
}


def features_of(benchmark: Benchmark) -> Features:
    """Return a benchmark's stream of features, and those of the held-out frames."""
    train, test = benchmark.train, benchmark.test
    return Features(
        np.asarray(train.seen.features, np.float32), train.labels.astype(np.int64),
        np.asarray(test.seen.features, np.float32), test.labels.astype(np.int64),
        benchmark.starts,
    )  # fmt: skip


def compare(features: Features, names: tuple[str, ...], cache: Path, say: Say) -> list[Row]:
    """Run peers, and ours for every method that one of them has.

    Returns:
        A row for each peer's method with our accuracy and times beside it; a peer that is missing
        has a row that says why (`skipped`).
    """
    rows: list[Row] = []
    ours: dict[str, Row] = {}
    for name in names:
        try:
            theirs = _run(PEERS[name], features, cache, say)
        except PeerMissing as reason:
            say(f"{name} is left out: {reason}")
            rows.append({"peer": name, "skipped": str(reason)})
            continue
        for one in theirs:
            key = f"{one['method']} {one['n_answered']}"  # the slow ones answer fewer frames
            if key not in ours:
                ours[key] = run_ours(one["method"], features, one["n_answered"])
            rows.append({"peer": name, **one,
                         **{f"our_{k}": ours[key][k] for k in ("accuracy", "learn_us", "answer_us")}
                         })  # fmt: skip
    return rows


def run_ours(name: str, features: Features, n_answered: int) -> Row:
    """Run our method of a name over the same stream, and on as many held-out features."""
    few = features.first_tests(n_answered) if n_answered < len(features.test_y) else features
    method = OURS[name](features.x.shape[1], features.n_classes)

    def learn() -> None:
        for start in range(0, len(few.y), CHUNK):
            method.learn_many(few.x[start : start + CHUNK], few.y[start : start + CHUNK])

    return row(name, few, learn, lambda: method.scores_many(few.test_x).argmax(1))


def markdown(rows: list[Row], what: str) -> str:
    """Return a table; methods within a point of the peer's agree."""
    lines = [
        {
            "package": f"{one['peer']} {one['version']}",
            "method": one["method"],
            "its accuracy %": f"{100 * one['accuracy']:.1f}",
            "ours %": f"{100 * one['our_accuracy']:.1f}",
            "learn: its, ours": f"{one['learn_us']:,.0f}, {one['our_learn_us']:,.0f}",
            "answer: its, ours": f"{one['answer_us']:,.0f}, {one['our_answer_us']:,.0f}",
        }
        for one in rows
        if "skipped" not in one
    ]
    skipped = [f"Left out: {o['peer']} ({o['skipped']})." for o in rows if "skipped" in o]
    head = f"{what}; microseconds of CPU per frame to learn and to answer."
    return "\n\n".join(filter(None, [head, table(lines), "\n".join(skipped)]))


def _run(peer: Peer, features: Features, cache: Path, say: Say) -> list[Row]:
    python = python_of(peer, cache / f"venv-{peer.name}", say)
    say(f"running {peer.name}")
    with tempfile.TemporaryDirectory() as folder:
        given, target = Path(folder) / "features.npz", Path(folder) / "rows.json"
        features.write(given)
        command = [str(python.absolute()), "-m", f"benchmarks.peers.run_{peer.name}"]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        environment.update(OMP_NUM_THREADS="1", WANDB_MODE="disabled")
        done = subprocess.run(
            [*command, str(given), str(target)], cwd=folder, capture_output=True, text=True,
            timeout=_LIMIT_S, check=False, env=environment,
        )  # fmt: skip
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise PeerMissing(f"its process ended with {done.returncode}: {last[:200]}")
        return list(json.loads(target.read_text()))
