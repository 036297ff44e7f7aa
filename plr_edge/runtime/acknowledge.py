"""Acknowledging: frames are answered, and the labels among them made durable. NumPy only.

This is where a label becomes `learned` or `quarantined`, and is kept for training or held out. It
is done on a draft of a model (see `LearnedModel.draft`), which replaces the model once the labels
are on disk. If the disk refuses them, the draft is dropped and nothing has changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from plr_edge.classifiers.class_means import SequentialScorer
from plr_edge.runtime.labelled_batch import LabelledBatch
from plr_edge.runtime.learned_model import LearnedModel
from plr_edge.runtime.prediction import Features, Prediction, answer
from plr_edge.runtime.quarantine import status_after_answer
from plr_edge.store import CANARY, LEARNED, QUARANTINED, TRAIN, Label, Store
from plr_edge.stream.base import Frame


def acknowledge(
    draft: LearnedModel,
    frames: Sequence[Frame],
    features: Features,
    store: Store | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> tuple[list[Prediction], LabelledBatch | None]:
    """Answer frames, and make the labels among them durable.

    Class means learn each label before the next frame is compared with them. The rest of the model
    learns afterwards, see `LearnedModel.learn`.

    Args:
        draft: a model that nothing else uses. Drop it if this raises.
        frames: n frames, some with labels.
        features: their features.
        store: where the labels go. Without it they are kept in memory only.
        metadata: what to keep in the store in the same transaction, by name.

    Returns:
        predictions: n of them.
        batch: the labels to learn, which may be none of them. None if no frame has a label.

    Raises:
        StateError: the disk refuses the labels.
    """
    finite = _finite(features)
    if store is not None and not finite.all():
        store.events.note("not finite", f"{len(frames) - finite.sum()} frames were not learned")
    cosines, labels = _learn_means(draft, frames, features, finite)
    predictions = answer(draft, frames, features, cosines)
    if not labels:
        return predictions, None
    rows = list(labels)
    own = features.take(rows)
    records, taps = draft.holdout.codec.encode(own.latents), own.taps.astype(np.float16)
    whole = []
    for n, i in enumerate(rows):
        label = replace(labels[i], predicted=predictions[i].label, record=records[n], taps=taps[n])
        status = label.status if frames[i].doubt else status_after_answer(label)
        whole.append(replace(label, status=status))
    if store is not None:
        kept = whole
        if not draft.keeps_samples:
            kept = [replace(label, record=None, taps=None) for label in whole]
        seqs = store.teach(kept, **({} if metadata is None else metadata))
    else:
        first = len(draft.history.labels) + 1
        seqs = list(range(first, first + len(whole)))
    whole = [replace(label, seq=seq) for label, seq in zip(whole, seqs, strict=True)]
    own = replace(own, taps=taps.astype(np.float32))  # as they will be when they are learned again
    return predictions, _counted(draft, own, records, whole)


def _learn_means(
    draft: LearnedModel, frames: Sequence[Frame], features: Features, finite: np.ndarray
) -> tuple[np.ndarray, dict[int, Label]]:
    """Let class means learn each label before the next frame is compared with them.

    Returns:
        cosines: (n, K) float32 cosine similarities of each frame to the means at its time.
        labels: labels by frame, still without latents. A frame that is not finite has none.
    """
    rows, labels = list[np.ndarray](), dict[int, Label]()
    scorer = SequentialScorer(draft.classifier.means, features.features)
    for i, frame in enumerate(frames):
        row = scorer.scores(i)
        rows.append(row)
        if frame.label is None or not finite[i]:
            continue
        known, status, use = draft.known_index(frame.label), LEARNED, TRAIN
        if frame.doubt or (known >= 0 and draft.label_filter.is_suspect(row, known)):
            status = QUARANTINED
        else:
            index = draft.index_of(frame.label)
            if draft.holdout.offer(index):
                use = CANARY
            else:
                draft.label_filter.update(row, index)
                scorer.learn(i, index)
        labels[i] = Label(
            name=frame.label,
            predicted="",
            source=frame.source,
            content=frame.content,
            time_ns=time.time_ns(),
            status=status,
            use=use,
        )
    cosines = np.full((len(frames), len(draft.classes)), -1.0, np.float32)
    for i in np.flatnonzero(finite):
        cosines[i, : len(rows[i])] = rows[i]
    return cosines, labels


def _counted(
    draft: LearnedModel, features: Features, records: np.ndarray, labels: list[Label]
) -> LabelledBatch:
    """Count labels that are durable, and return those to learn."""
    indices = np.array([draft.known_index(label.name) for label in labels], np.int64)
    predicted = [draft.known_index(label.predicted) for label in labels]
    draft.history.add(indices.tolist(), predicted)
    learned = np.flatnonzero([label.status == LEARNED for label in labels])
    draft.n_quarantined += len(labels) - len(learned)
    return LabelledBatch(features, records, indices, labels).take(learned)


def _finite(features: Features) -> np.ndarray:
    """Return for each frame whether all its features are finite: (n,) bool."""
    parts = (features.latents, features.taps, features.features)
    each = [np.isfinite(part.reshape(len(part), -1)).all(1) for part in parts]
    return np.asarray(np.logical_and.reduce(each))
