"""What `adapt` tells: what this run did, and apart from it what the state holds."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from plr_edge.runtime.prediction import Prediction
from plr_edge.runtime.session import Session
from plr_edge.store import QUARANTINED
from plr_edge.stream.base import Frame, Skipped


@dataclass(frozen=True, kw_only=True)
class StateSummary:
    """What all runs together have learned.

    Attributes:
        n_taught: number of labels learned.
        n_quarantined: number of labels in quarantine.
        n_classes: number of classes known.
        prequential_accuracy: share of all labelled frames that were answered correctly before they
            were learned. None without labels.
    """

    n_taught: int
    n_quarantined: int
    n_classes: int
    prequential_accuracy: float | None


@dataclass(frozen=True, kw_only=True)
class AdaptSummary:
    """What a run of `adapt` did, and what the state holds after it.

    Attributes:
        n_frames: number of frames answered.
        n_taught: number of labels learned.
        n_known: number of frames passed over, because they had been taught with the same label.
        n_relabelled: number of frames whose label was another one before.
        n_unlabelled: number of frames that have no label, and were only answered.
        n_quarantined: number of labels that look like mistakes and were not learned.
        n_classes: number of classes known.
        prequential_accuracy: share of the labelled frames among `n_frames` that were answered
            correctly before they were learned. None without such frames.
        seconds: duration.
        frames_per_s: rate of frames.
        learn_share: share of the time spent on learning.
        frozen_s: seconds spent in the frozen part.
        adaptive_s: seconds spent in the adaptive part.
        version: number of published candidates.
        n_latents: number of latents in the latent memory.
        latent_bytes: size of the latent memory.
        cache_mean_age_steps: mean age of the cached features used for training.
        cache_max_age_steps: largest age of them in all runs.
        train_macs: multiply-adds of training.
        refresh_macs: multiply-adds of recomputing features.
        steps_per_level: number of training steps by level entered.
        skipped: frames that could not be read, with the reason.
        interrupted: whether the stream was not read to its end.
        state: what all runs together have learned. None while the run goes on.
    """

    n_frames: int
    n_taught: int
    n_quarantined: int
    n_classes: int
    prequential_accuracy: float | None
    seconds: float
    frames_per_s: float
    learn_share: float
    frozen_s: float
    adaptive_s: float
    version: int
    n_latents: int
    latent_bytes: int
    cache_mean_age_steps: float
    cache_max_age_steps: int
    train_macs: int
    refresh_macs: int
    steps_per_level: Sequence[int]
    skipped: Sequence[Skipped] = ()
    interrupted: bool = False
    n_known: int = 0
    n_relabelled: int = 0
    n_unlabelled: int = 0
    state: StateSummary | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what `plr-edge adapt --json` prints."""
        return {
            "n_frames": self.n_frames,
            "n_taught": self.n_taught,
            "n_quarantined": self.n_quarantined,
            "n_classes": self.n_classes,
            "prequential_accuracy": self.prequential_accuracy,
            "seconds": self.seconds,
            "frames_per_s": self.frames_per_s,
            "learn_share": self.learn_share,
            "frozen_s": self.frozen_s,
            "adaptive_s": self.adaptive_s,
            "version": self.version,
            "memory": {"n": self.n_latents, "bytes": self.latent_bytes},
            "cache": {
                "mean_age_steps": self.cache_mean_age_steps,
                "max_age_steps": self.cache_max_age_steps,
            },
            "macs": {"train": self.train_macs, "refresh": self.refresh_macs},
            "steps_per_level": list(self.steps_per_level),
            "skipped": [{"source": s.source, "reason": s.reason} for s in self.skipped],
            "interrupted": self.interrupted,
            "n_known": self.n_known,
            "n_relabelled": self.n_relabelled,
            "n_unlabelled": self.n_unlabelled,
            "state": None if self.state is None else asdict(self.state),
        }

    def __getitem__(self, name: str) -> Any:
        """Return an entry of `to_dict`. Deprecated, as of the time when `adapt` returned a dict."""
        warnings.warn(
            f"the summary of adapt() is not a dict any more; use its attributes, not [{name!r}]",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.to_dict()[name]


class Progress:
    """How far a stream was learned.

    Attributes:
        n_frames: number of frames answered.
        n_unlabelled: number of those without a label.
    """

    def __init__(self, session: Session) -> None:
        """Begin to count. What the session learned before does not count."""
        self.n_frames = self.n_unlabelled = self._n_right = 0
        self._session = session
        self._began, self._learned_before_s = time.perf_counter(), session.learn_s
        self._frozen_before_s = session.perception.frozen_s
        self._adaptive_before_s = session.perception.adaptive_s
        self._cost_before = deepcopy(session.learner.features.cost)
        self._taught_before = session.learned.n_taught
        self._quarantined_before = session.learned.n_quarantined

    def add(self, frames: Sequence[Frame], predictions: Sequence[Prediction]) -> None:
        """Count frames that were answered."""
        self.n_frames += len(frames)
        self.n_unlabelled += sum(frame.label is None for frame in frames)
        pairs = zip(frames, predictions, strict=True)
        self._n_right += sum(f.label is not None and f.label == p.label for f, p in pairs)

    @property
    def n_taught(self) -> int:
        """Number of labels learned."""
        return self._session.learned.n_taught - self._taught_before

    @property
    def n_quarantined(self) -> int:
        """Number of labels that went to quarantine."""
        return self._session.learned.n_quarantined - self._quarantined_before

    def summary(self, n_known: int = 0, n_relabelled: int = 0) -> AdaptSummary:
        """Return the summary so far."""
        session, learned = self._session, self._session.learned
        memory, cost, before = (
            session.training.memory, session.learner.features.cost, self._cost_before
        )  # fmt: skip
        steps = zip_longest(cost.steps_per_level, before.steps_per_level, fillvalue=0)
        elapsed_s = max(time.perf_counter() - self._began, 1e-9)
        n_labelled = self.n_frames - self.n_unlabelled
        return AdaptSummary(
            n_frames=self.n_frames,
            n_taught=self.n_taught,
            n_known=n_known,
            n_relabelled=n_relabelled,
            n_unlabelled=self.n_unlabelled,
            n_quarantined=self.n_quarantined,
            n_classes=len(learned.classes),
            prequential_accuracy=self._n_right / n_labelled if n_labelled else None,
            seconds=elapsed_s,
            frames_per_s=self.n_frames / elapsed_s,
            learn_share=(session.learn_s - self._learned_before_s) / elapsed_s,
            frozen_s=session.perception.frozen_s - self._frozen_before_s,
            adaptive_s=session.perception.adaptive_s - self._adaptive_before_s,
            version=learned.version,
            n_latents=len(memory),
            latent_bytes=memory.n_bytes,
            cache_mean_age_steps=(cost.age_sum_steps - before.age_sum_steps)
            / max(cost.n_cached - before.n_cached, 1),
            cache_max_age_steps=cost.age_max_steps,
            train_macs=cost.train_macs - before.train_macs,
            refresh_macs=cost.refresh_macs - before.refresh_macs,
            steps_per_level=tuple(now - then for now, then in steps),
        )

    def state(self) -> StateSummary:
        """Return what all runs together have learned."""
        learned, store = self._session.learned, self._session.store
        if store is None:
            n_quarantined = learned.n_quarantined
        else:
            n_quarantined = sum(1 for _ in store.labels.read(status=QUARANTINED))
        return StateSummary(
            n_taught=learned.n_taught,
            n_quarantined=n_quarantined,
            n_classes=len(learned.classes),
            prequential_accuracy=learned.history.accuracy,
        )
