"""Methods of scikit-learn over a fixed feature, with counters of bytes and multiply-adds."""

from __future__ import annotations

import copy

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.methods.softmax import MEMORY_BYTES, FeatureMemory
from plr_edge.classifiers.class_means import unit

_NEIGHBOURS = (1, 5, 15)
_HELD_BACK_EVERY = 10
_FEWEST_HELD, _MOST_HELD = 20, 200
_LEAST_VARIANCE = 1e-9


class NaiveBayes:
    """Gaussian naive Bayes with equal priors: scikit-learn's `GaussianNB.partial_fit`.

    Source: John and Langley, "Estimating Continuous Distributions in Bayesian Classifiers", UAI
    1995. `floor`, in units of the mean variance over all samples, is added to every variance.
    """

    def __init__(self, width: int, n_classes: int, *, floor: float = 0.1) -> None:
        self._floor, self._classes = floor, np.arange(n_classes)
        self.model = GaussianNB(var_smoothing=0.0)
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        self.model.partial_fit(np.asarray(features, np.float64), labels, self._classes)
        self.macs += 2 * features.size

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return log likelihoods; see `FeatureClassifier`."""
        counts, n = self.model.class_count_, len(self._classes)
        fitted = copy.copy(self.model)
        fitted.var_ = np.maximum(self.model.var_, 0) + self._least_variance()
        fitted.class_prior_ = np.full(n, 1 / n)
        scores = fitted.predict_joint_log_proba(np.asarray(features, np.float64)) + np.log(n)
        scores[:, counts == 0] = -np.inf
        return np.asarray(scores)

    @property
    def n_bytes(self) -> int:
        """Bytes of means and variances."""
        return int(self.model.theta_.nbytes + self.model.var_.nbytes)

    def _least_variance(self) -> float:
        share = self.model.class_count_[:, None] / self.model.class_count_.sum()
        theta = self.model.theta_
        total = (share * (self.model.var_ + (theta - (share * theta).sum(0)) ** 2)).sum(0)
        return max(self._floor * float(total.mean()), _LEAST_VARIANCE)


class Perceptron:
    """One-versus-rest perceptrons with averaged weights: scikit-learn's `SGDClassifier`.

    Source: Freund and Schapire, "Large Margin Classification Using the Perceptron Algorithm",
    Machine Learning 37, 1999, section 3.
    """

    def __init__(self, width: int, n_classes: int) -> None:
        self._classes, self._size = np.arange(n_classes), width * n_classes
        self._seen = np.zeros(n_classes, bool)
        self._model = SGDClassifier(
            loss="perceptron", penalty=None, learning_rate="constant", eta0=1.0, average=True,
            fit_intercept=False, shuffle=False,
        )  # fmt: skip
        self.macs = 0

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        self._model.partial_fit(unit(features), labels, self._classes)
        self._seen[labels] = True
        self.macs += 3 * len(labels) * self._size  # answers, updates, and their average

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return products with the averaged weights; see `FeatureClassifier`."""
        scores = self._model.decision_function(unit(features))
        if scores.ndim == 1:  # two classes
            scores = np.stack([-scores, scores], 1)
        return np.where(self._seen, scores, -np.inf)

    @property
    def n_bytes(self) -> int:
        """Bytes of the weights and of their averages, float64."""
        return 2 * 8 * self._size


class NearestNeighbours:
    """Vote of the k most similar samples of a memory: scikit-learn's `KNeighborsClassifier`.

    Source: Cover and Hart, "Nearest Neighbor Pattern Classification", IEEE Transactions on
    Information Theory 13, 1967. k is the best on every tenth sample of the memory.
    """

    def __init__(
        self,
        width: int,
        n_classes: int,
        *,
        choices: tuple[int, ...] = _NEIGHBOURS,
        n_bytes: int = MEMORY_BYTES,
        equal_votes: bool = False,
    ) -> None:
        self._memory, self._choices = FeatureMemory(width, n_bytes), choices
        self._n_classes, self._width = n_classes, width
        self.macs = 0  # of the choice of k; learning computes nothing
        self._weights = "uniform" if equal_votes else _similarity

    def learn_many(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn; see `FeatureClassifier`."""
        self._memory.add_many(unit(features), labels)

    def scores_many(self, features: np.ndarray) -> np.ndarray:
        """Return votes; nearer samples weigh more unless votes are equal."""
        x, y = self._memory.features(), self._memory.held.labels
        return self._votes(features, x, y, self._best_k(x, y))

    @property
    def n_bytes(self) -> int:
        """Bytes of the memory."""
        return self._memory.held.n_bytes

    def _best_k(self, x: np.ndarray, y: np.ndarray) -> int:
        held = np.arange(len(y)) % _HELD_BACK_EVERY == 0
        if held.sum() < _FEWEST_HELD or len(self._choices) == 1:
            return self._choices[0]
        rows = np.flatnonzero(held)[:_MOST_HELD]
        self.macs += len(self._choices) * len(rows) * int((~held).sum()) * self._width
        right = {
            k: float((self._votes(x[rows], x[~held], y[~held], k).argmax(1) == y[rows]).mean())
            for k in self._choices
        }
        return max(right, key=lambda k: right[k])

    def _votes(self, queries: np.ndarray, x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
        k = min(k, len(y))
        model = KNeighborsClassifier(k, weights=self._weights, metric="cosine", algorithm="brute")
        votes = np.zeros((len(queries), self._n_classes))
        votes[:, np.unique(y)] = k * model.fit(x, y).predict_proba(queries)
        return votes


def _similarity(distances: np.ndarray) -> np.ndarray:
    return 2 - distances  # 1 + cosine
