"""Knowledge to the store and back: generations, then the labels taught after them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from plr_edge.errors import StateError
from plr_edge.runtime.holdout import HoldoutSet, seqs_of, with_seq
from plr_edge.runtime.perception import check_state_fits
from plr_edge.runtime.validation import sound
from plr_edge.store import LEARNED, UNDONE, Label, State, Store

if TYPE_CHECKING:
    from plr_edge.runtime.knowledge import Knowledge
    from plr_edge.runtime.labelled_batch import LabelledBatch
    from plr_edge.runtime.session import Session

_log = logging.getLogger(__name__)
_CHUNK = 16


@dataclass(frozen=True)
class TrainerCheckpoint:
    """What training knows.

    Attributes:
        upto: the last label that it learned.
        seqs: (n,) int64, places in the label log of what the latent memory holds.
        labels: (n,) int32 class indices.
        memory_facts: what `LatentMemory.from_arrays` needs beside them.
        weights: in training, where they are not those that answer.
        rows: (K, D) float32 of the cosine classifier.
        prior: (K,) float32 label frequencies.
        facts: `cost`, `credit_macs`, `next_publish`.
    """

    upto: int
    seqs: np.ndarray
    labels: np.ndarray
    memory_facts: dict[str, Any]
    weights: Mapping[str, np.ndarray] | None
    rows: np.ndarray
    prior: np.ndarray
    facts: dict[str, Any]

    @classmethod
    def of(cls, session: Session) -> TrainerCheckpoint:
        """Return what a session's training knows; weights that diverged are left out."""
        weights, rows = session.learner.weights(), session.learner.classifier()
        usable = sound([*weights.values(), rows])
        same = all(np.array_equal(weights[n], a) for n, a in session.good_weights.items())
        memory, facts = session.memory.to_arrays()
        return cls(
            upto=session.store.last_seq if session.store else 0,
            seqs=seqs_of(memory["records"]),
            labels=memory["labels"],
            memory_facts=facts,
            weights=weights if usable and not same else None,
            rows=rows if usable else session.good_rehearsed,
            prior=session.learner.prior.numpy(),
            facts={
                "cost": vars(session.learner.cost),
                "credit_macs": session.credit_macs,
                "next_publish": session.next_publish,
            },
        )


class Trains(Protocol):
    """What recovery asks of `Session` and `Live` beside `Knowledge`."""

    def restore_slow(self, slow: TrainerCheckpoint) -> None:
        """Go on training from a saved generation."""

    def learn_slow(self, taught: LabelledBatch) -> None:
        """Train on labels."""


def save(
    knowledge: Knowledge,
    store: Store,
    slow: TrainerCheckpoint,
    reason: str,
    upto: int | None = None,
) -> None:
    """Write everything learned as a generation.

    Args:
        knowledge: all but training.
        store: where to.
        slow: training; it may lag behind.
        reason: for the log.
        upto: the last label that `knowledge` learned; the last of all by default.
    """
    canary, canary_facts = knowledge.canary.memory.to_arrays()
    canary_seqs, ridge = knowledge.canary.seqs, knowledge.classifier.ridge
    facts = {
        **identity(knowledge),
        "release": knowledge.bundle.release,
        "classes": knowledge.classes,
        "memory": slow.memory_facts,
        "memory_upto": slow.upto,
        "canary": {**canary_facts, **knowledge.canary.to_facts()},
        "n_taught": knowledge.n_taught,
        "version": knowledge.version,
        "schedule": {"name": knowledge.schedule.name, "shares": knowledge.schedule.shares},
        "slow": slow.facts,
        "verdict": vars(knowledge.verdict) if knowledge.verdict else None,
    }
    arrays: dict[str, dict[str, np.ndarray]] = {
        "adaptive": dict(knowledge.good_weights),
        "classifier": knowledge.classifier.to_arrays(),
        "learning": {
            **{f"ridge.{n}": a for n, a in ridge.learning_arrays().items()},
            **{f"admission.{n}": a for n, a in knowledge.admission.to_arrays().items()},
            "memory.seqs": slow.seqs,
            "memory.labels": slow.labels,
            "canary.seqs": canary_seqs,
            "canary.labels": canary["labels"],
            "rows": slow.rows,
            "prior": slow.prior,
        },
    }
    if slow.weights is not None:  # trained on since the last generation that was published
        arrays["trainer"] = dict(slow.weights)
    in_use = [*slow.seqs.tolist(), *canary_seqs.tolist()]
    store.commit_generation(facts, arrays, upto=upto, in_use=in_use, reason=reason)


def identity(knowledge: Knowledge) -> dict[str, Any]:
    """Return what a state must have in common with who uses it."""
    return {
        "bundle": knowledge.bundle.name,
        "frozen_sha256": knowledge.bundle.frozen_sha256,
        "codec": {"bits": knowledge.config.bits, "pool": knowledge.config.pool},
    }


def recover(knowledge: Any, store: Store) -> int:
    """Go on from the newest generation, and learn the labels that it had not.

    Args:
        knowledge: a `Knowledge` that `Trains`.
        store: its store.

    Returns:
        How many labels were learned again.

    Raises:
        StateError: the state is damaged, or of another frozen part, codec or later release.
    """
    _check_identity(knowledge, store)
    damage = store.generations.damage()
    for text in damage.values():
        _log.warning("%s; learning again what it held", text)
    if damage and not store.refusal:
        store.generations.discard(sorted(damage), "damaged")
    saved = store.generations.read()
    knowledge.fell_back = bool(damage) and saved is None
    fast, slow = 0, 0
    if saved:
        fast, slow = saved.upto, int(saved.facts["memory_upto"])
        _restore(knowledge, store, saved)
    n_missed = _learn_again(knowledge, store, fast, slow)
    for note in store.notes:
        _log.warning("%s", note)
    _restore_history(knowledge, store)
    return n_missed


def _learn_again(knowledge: Any, store: Store, fast: int, slow: int) -> int:
    """Learn the labels after places in the log, as far as their latents are still held."""
    missed = [x for x in store.labels.read(min(fast, slow)) if x.status == LEARNED]
    n_held = 0
    for start in range(0, len(missed), _CHUNK):
        held = store.labels.with_latents(missed[start : start + _CHUNK])
        n_held += len(held)
        if held:
            taught = knowledge.relearn(held, fast)
            knowledge.learn_slow(taught.take(np.flatnonzero(taught.seqs > slow)))
    if n_held < len(missed):
        store.notes.append(
            f"{len(missed) - n_held} labels cannot be learned again: their latents were let go"
        )
    if missed:
        store.events.note("recovered", f"{n_held} of {len(missed)} labels learned again")
    return n_held


def _check_identity(knowledge: Knowledge, store: Store) -> None:
    kept, mine, bundle = store.facts.get("identity"), identity(knowledge), knowledge.bundle
    if kept is not None:
        check_state_fits(bundle, kept, store.path)
        if kept["codec"] != mine["codec"]:
            raise StateError(
                f"the state keeps latents at {kept['codec']['bits']} bits and pool "
                f"{kept['codec']['pool']}; give the same --bits and --pool, or another --state"
            )
    seen = int(store.facts.get("release", 0))
    if bundle.release < seen:
        raise StateError(
            f"{bundle.path} is release {bundle.release}; {store.path} has seen {seen}; use that "
            "one or a later one"
        )
    config = asdict(knowledge.config)
    facts = {"identity": kept or mine, "release": bundle.release, "config": config}
    changed = {k: v for k, v in facts.items() if json.dumps(v) != json.dumps(store.facts.get(k))}
    if changed and not store.refusal:
        store.facts.keep(**changed)


def _restore(knowledge: Any, store: Store, saved: State) -> None:
    facts, learning = saved.facts, saved.arrays["learning"]
    knowledge.classes.extend(facts["classes"])
    knowledge.n_taught, knowledge.version = int(facts["n_taught"]), int(facts["version"])
    if saved.arrays["adaptive"]:
        knowledge.good_weights = saved.arrays["adaptive"]
    knowledge.good_rehearsed = saved.arrays["classifier"]["rehearsed"]
    knowledge.classifier.restore(saved.arrays["classifier"], _part(learning, "ridge"))
    knowledge.admission.restore(_part(learning, "admission"))
    _restore_canary(knowledge.canary, store, learning, facts["canary"])
    if knowledge.version:
        knowledge.perception.publish(knowledge.good_weights, knowledge.version)
    slow = TrainerCheckpoint(
        upto=int(facts["memory_upto"]),
        seqs=learning["memory.seqs"],
        labels=learning["memory.labels"],
        memory_facts=facts["memory"],
        weights=saved.arrays.get("trainer"),
        rows=learning["rows"],
        prior=learning["prior"],
        facts=facts["slow"],
    )
    knowledge.restore_slow(slow)


def _part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    return {n.partition(".")[2]: a for n, a in arrays.items() if n.startswith(f"{name}.")}


def _restore_canary(
    canary: HoldoutSet, store: Store, learning: dict[str, np.ndarray], facts: dict[str, Any]
) -> None:
    canary.restore(facts)
    seqs, labels = learning["canary.seqs"], learning["canary.labels"]
    held, found = _held(store, seqs)
    for label, index in zip(held, labels[found], strict=True):
        assert label.record is not None and label.taps is not None
        canary.add(label.record, label.taps, label.seq, int(index))


def _held(store: Store, seqs: np.ndarray) -> tuple[list[Label], np.ndarray]:
    """Return the labels whose latents are there, and the places of these in `seqs`."""
    blank = [Label(name="", predicted="", source="", time_ns=0, seq=int(seq)) for seq in seqs]
    held = store.labels.with_latents(blank)
    there = {label.seq for label in held}
    found = np.array([i for i, seq in enumerate(seqs.tolist()) if seq in there], np.int64)
    if len(found) < len(seqs):
        store.notes.append(f"{len(seqs) - len(found)} latents of the memory are missing")
    return held, found


def records_of(store: Store, seqs: np.ndarray, record_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the latents of labels, as the latent memory keeps them.

    Args:
        store: that may have let go of some.
        seqs: (n,) places in the label log.
        record_bytes: of the latent memory.

    Returns:
        records: (m, record_bytes) uint8, m <= n.
        found: (m,) int64, where in `seqs` they stand.
    """
    held, found = _held(store, seqs)
    if not held:
        return np.zeros((0, record_bytes), np.uint8), found
    records = np.stack([label.record for label in held if label.record is not None])
    return with_seq(records, seqs[found]), found


def _restore_history(knowledge: Knowledge, store: Store) -> None:
    """Read what was answered to each label before it was learned."""
    index = {name: i for i, name in enumerate(knowledge.classes)}
    for label in store.labels:
        if label.status != UNDONE:
            knowledge.history.add([index.get(label.name, -1)], [index.get(label.predicted, -1)])
