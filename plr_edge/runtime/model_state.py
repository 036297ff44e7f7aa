"""How a generation on disk holds each part of a learned model.

Names of metadata and arrays are a file format: a state that any release wrote can be opened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plr_edge.classifiers.combined import CombinedClassifier
from plr_edge.classifiers.statistics_only import drop_samples
from plr_edge.runtime.holdout import HoldoutSet
from plr_edge.runtime.publish_gate import Verdict
from plr_edge.runtime.quarantine import LabelFilter
from plr_edge.store import Label
from plr_edge.tensors import with_prefix, without_prefix


def _no_labels(seqs: np.ndarray) -> tuple[list[Label], np.ndarray]:
    return [], np.zeros(0, np.int64)


@dataclass
class ModelState:
    """A model as a generation holds it.

    Attributes:
        metadata: values that fit JSON, by name.
        arrays: arrays by group, then by name.
        read_labels: takes label numbers (n,); returns the m <= n labels whose latents are on disk,
            with them, and (m,) int64 positions of these in the numbers.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, dict[str, np.ndarray]] = field(default_factory=dict)
    read_labels: Callable[[np.ndarray], tuple[list[Label], np.ndarray]] = _no_labels


@dataclass(frozen=True)
class Stored:
    """How a field of a model is stored.

    Attributes:
        write: returns the metadata and the arrays of a value.
        read: takes the field of a blank model and a state; returns the value. It may modify and
            return the former.
        transient: whether the value is not restored.
    """

    write: Callable[[Any], ModelState]
    read: Callable[[Any, ModelState], Any]
    transient: bool = False

    @property
    def as_metadata(self) -> dict[str, Stored]:
        """This as the metadata of a dataclass field."""
        return {"stored": self}


def json_value(name: str) -> dict[str, Stored]:
    """Store a number, text or list under a name. A state without that name keeps the default."""

    def read(blank: Any, state: ModelState) -> Any:
        return type(blank)(state.metadata.get(name, blank))

    return Stored(lambda value: ModelState({name: value}), read).as_metadata


def _write_classifier(classifier: CombinedClassifier) -> ModelState:
    if not classifier.mixing.keeps_samples:
        drop_samples(classifier)
    answering = classifier.to_arrays()  # first: ridge catches up with its queue
    return ModelState({}, {"classifier": answering, "learning": classifier.learning_arrays()})


def _read_classifier(blank: CombinedClassifier, state: ModelState) -> CombinedClassifier:
    share = blank.mixing.false_unknown
    blank.restore(state.arrays["classifier"], state.arrays["learning"])
    blank.mixing.allow_unknown(share)
    return blank


def _write_filter(label_filter: LabelFilter) -> ModelState:
    return ModelState({}, {"learning": with_prefix("admission", label_filter.to_arrays())})


def _read_filter(blank: LabelFilter, state: ModelState) -> LabelFilter:
    blank.restore(without_prefix("admission", state.arrays["learning"]))
    return blank


def _write_holdout(holdout: HoldoutSet) -> ModelState:
    """Store the numbers of the labels; their latents are in the label log."""
    kept = slice(None) if holdout.keeps_samples else slice(0)
    arrays = {
        "canary.seqs": holdout.seqs[kept],
        "canary.labels": holdout.labels[kept].astype(np.int32),
    }
    return ModelState({"canary": holdout.to_metadata()}, {"learning": arrays})


def _read_holdout(blank: HoldoutSet, state: ModelState) -> HoldoutSet:
    arrays = state.arrays["learning"]
    labels, found = state.read_labels(arrays["canary.seqs"])
    blank.restore_offers(state.metadata["canary"])
    for label, index in zip(labels, arrays["canary.labels"][found], strict=True):
        assert label.record is not None and label.taps is not None
        blank.add(label.record, label.taps, label.seq, int(index))
    return blank


def _write_weights(weights: Mapping[str, np.ndarray]) -> ModelState:
    return ModelState({}, {"adaptive": dict(weights)})


def _read_weights(blank: Mapping[str, np.ndarray], state: ModelState) -> Mapping[str, np.ndarray]:
    return state.arrays["adaptive"] or blank


def _write_verdict(verdict: Verdict | None) -> ModelState:
    return ModelState({"verdict": vars(verdict) if verdict else None})


CLASSIFIER = Stored(_write_classifier, _read_classifier).as_metadata
LABEL_FILTER = Stored(_write_filter, _read_filter).as_metadata
HOLDOUT = Stored(_write_holdout, _read_holdout).as_metadata
WEIGHTS = Stored(_write_weights, _read_weights).as_metadata
# `plr-edge inspect` shows the verdict; a robot that has just started has none yet
VERDICT = Stored(_write_verdict, lambda blank, _: blank, transient=True).as_metadata
NOT_STORED = Stored(lambda _: ModelState(), lambda blank, _: blank, transient=True).as_metadata
