"""MixLearner: what a mix is fitted from, and when it is fitted. NumPy only."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from plr_edge.classifiers.mix import Mix, fit_mix, solved_again
from plr_edge.classifiers.moments import Moments
from plr_edge.classifiers.tail_samples import TailSamples
from plr_edge.classifiers.views import Mirror
from plr_edge.tensors import with_prefix, without_prefix

_FIRST_FIT = 128  # samples before the first mix is fitted
_FIT_GROWTH = 2.0  # its classifiers are solved again once there are so many times the samples ...
_MIN_COVERED = 0.5  # share of the classes that samples are held of, to fit weights to them
_WEIGHTS_GROWTH = 4.0  # ... and its weights fitted again once there are so many times


class MixLearner:
    """Learns the statistics of a mix, and fits it to them.

    Attributes:
        moments: what its classifiers are solved from.
        tails: the newest samples of each class, which its weights are fitted to.
        mix: the mix. None before the first fit. It is replaced and never modified.
        mirror: pairs of the taps. None where they are not known.
        false_unknown: share of the frames of known classes that may be called unknown, 0..1.
        keeps_samples: whether `to_arrays` may return samples, and not only statistics of them.
        fit_macs: multiply-adds spent on fitting so far.
    """

    def __init__(
        self,
        taps_width: int,
        feature_width: int,
        tap_shapes: Sequence[Sequence[int]] = (),
        false_unknown: float = 0.01,
    ) -> None:
        """Start without samples.

        Args:
            taps_width: T, the length of the taps.
            feature_width: D, the length of the exported feature.
            tap_shapes: shape of each tap, (C, rows, columns) or (C,). Unknown by default.
            false_unknown: share of the frames of known classes that may be called unknown, 0..1.
        """
        self.moments = Moments(taps_width, feature_width)
        self.tails = TailSamples(taps_width + feature_width)
        self.mix: Mix | None = None
        self.mirror = Mirror(tap_shapes) if tap_shapes else None
        self.false_unknown, self.fit_macs = false_unknown, 0.0
        self.keeps_samples = True

    def learn_many(self, taps: np.ndarray, exported: np.ndarray, labels: np.ndarray) -> None:
        """Learn a batch.

        Args:
            taps: (n, T) float32.
            exported: (n, D) float32 features of the network as exported.
            labels: (n,) class indices.
        """
        samples = np.concatenate([taps, exported], axis=1, dtype=np.float32)
        self.moments.learn_many(samples, labels)
        self.tails.add_many(samples, labels)

    def newest_features(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the exported features (n, D) of the newest samples, and their labels (n,)."""
        samples, labels, _ = self.tails.held_out()
        return samples[:, self.moments.n_taps :], labels

    def is_due(self, *, final: bool) -> bool:
        """Return whether enough samples came since the mix was fitted.

        Args:
            final: one sample is enough, as no more may come.
        """
        n, n_fitted = self.moments.n, 0 if self.mix is None else self.mix.n_samples
        return n > n_fitted if final else n >= max(_FIRST_FIT, _FIT_GROWTH * n_fitted)

    def fitted(self, *, final: bool) -> Mix | None:
        """Fit a mix to everything learned. Nothing may be learning on another thread meanwhile.

        Args:
            final: fit its weights too, even if only a few samples came since the last time.
        """
        old = self.mix
        grown = old is None or final or self.moments.n >= _WEIGHTS_GROWTH * old.n_weighted
        if old is None or (grown and self.tails.covered_share >= _MIN_COVERED):
            mix = fit_mix(self.moments, self.tails, self.mirror, self.false_unknown)
        else:
            mix = solved_again(old, self.moments, self.mirror)
        self.fit_macs += 0.0 if mix is None else mix.fit_macs
        return mix

    def allow_unknown(self, share: float) -> None:
        """Let this share of the frames of known classes be called unknown, 0..1, from now on."""
        self.false_unknown, mix = share, self.mix
        if mix is not None and mix.unknown is not None:
            self.mix = replace(mix, unknown=replace(mix.unknown, false_unknown=share))

    def copy(self) -> MixLearner:
        """Return an independent copy. Nothing may be learning on another thread meanwhile."""
        other = copy.copy(self)
        other.moments, other.tails = self.moments.copy(), self.tails.copy()
        return other

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that learning needs."""
        moments, tails = self.moments.to_arrays(), self.tails.to_arrays()
        if not self.keeps_samples:
            moments, tails = self.moments.recentred().to_arrays(), self.tails.counts_to_arrays()
        return {**with_prefix("moments", moments), **with_prefix("tails", tails)}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continue from what `to_arrays` returned. Earlier releases wrote nothing of it.

        Raises:
            StateError: the arrays do not fit these widths.
        """
        if moments := without_prefix("moments", arrays):
            self.moments.restore(moments)
            self.tails.restore(without_prefix("tails", arrays))
