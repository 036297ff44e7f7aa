"""A session's knowledge to the store and back: generations, then the labels taught after them."""

from __future__ import annotations

import copy
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plr_edge.bundle import Bundle
from plr_edge.config import AdaptConfig
from plr_edge.errors import StateError
from plr_edge.memory import LatentMemory
from plr_edge.runtime.canary import Canary, seqs_of, with_seq
from plr_edge.runtime.perception import check_state_fits
from plr_edge.store import LEARNED, UNDONE, Label, State, Store, opened_for_reading

if TYPE_CHECKING:
    from plr_edge.runtime.session import Session

_log = logging.getLogger(__name__)
_CHUNK = 16
_MANY = 64


class Undo:
    """What has to be put back where a batch or a generation is refused."""

    def __init__(self, session: Session) -> None:
        self._session = session
        classifier = session.classifier
        self._means = copy.deepcopy(classifier.means)
        self._rehearsed, self._unknown_below = classifier.rehearsed, classifier.unknown_below
        self._admission = copy.deepcopy(session.admission)
        self._canary = session.canary.to_facts()
        self._n_classes = len(session.classes)
        self._engine, self._version = session.perception.engine, session.perception.version

    def restore(self) -> None:
        """Put it back."""
        session, classifier = self._session, self._session.classifier
        classifier.means = self._means
        classifier.rehearsed, classifier.unknown_below = self._rehearsed, self._unknown_below
        session.admission = self._admission
        session.canary.restore(self._canary)
        del session.classes[self._n_classes :]
        session.perception.engine, session.perception.version = self._engine, self._version


def save(session: Session, store: Store, reason: str) -> None:
    """Write everything learned as a generation."""
    memory, memory_facts = session.memory.to_arrays()
    canary, canary_facts = session.canary.memory.to_arrays()
    seqs, canary_seqs = seqs_of(session.memory), session.canary.seqs
    facts = {
        **identity(session),
        "classes": session.classes,
        "memory": memory_facts,
        "canary": {**canary_facts, **session.canary.to_facts()},
        "n_taught": session.n_taught,
        "next_publish": session.next_publish,
        "credit_macs": session.credit_macs,
        "version": session.version,
        "schedule": {"name": session.schedule.name, "shares": session.schedule.shares},
        "cost": vars(session.learner.cost),
        "verdict": vars(session.verdict) if session.verdict else None,
    }
    arrays: dict[str, dict[str, np.ndarray]] = {
        "adaptive": dict(session.good_weights),
        "classifier": session.classifier.to_arrays(),
        "learning": {
            **{f"ridge.{n}": a for n, a in session.classifier.ridge.learning_arrays().items()},
            **{f"admission.{n}": a for n, a in session.admission.to_arrays().items()},
            "memory.seqs": seqs,
            "memory.labels": memory["labels"],
            "canary.seqs": canary_seqs,
            "canary.labels": canary["labels"],
            "prior": session.learner.prior.numpy(),
        },
    }
    weights, rows = session.learner.weights(), session.learner.classifier()
    finite = all(np.isfinite(a).all() for a in [*weights.values(), rows])
    arrays["learning"]["rows"] = rows if finite else session.good_rehearsed
    if finite and any(not np.array_equal(weights[n], a) for n, a in session.good_weights.items()):
        arrays["trainer"] = weights  # trained on since the last generation that was published
    in_use = [*seqs.tolist(), *canary_seqs.tolist()]
    store.publish(facts, arrays, in_use=in_use, reason=reason)


def identity(session: Session) -> dict[str, Any]:
    """Return what a state must have in common with a session."""
    return {
        "bundle": session.bundle.name,
        "frozen_sha256": session.bundle.frozen_sha256,
        "codec": {"bits": session.config.bits, "pool": session.config.pool},
    }


def recover(session: Session, store: Store) -> None:
    """Go on from the newest generation, and learn the labels that it had not.

    Raises:
        StateError: the state is damaged, or of another frozen part or codec.
    """
    kept = store.get("identity")
    if kept is None:
        store.keep(identity=identity(session))
    else:
        check_state_fits(session.bundle, kept, store.path)
        mine = identity(session)["codec"]
        if kept["codec"] != mine:
            raise StateError(
                f"the state keeps latents at {kept['codec']['bits']} bits and pool "
                f"{kept['codec']['pool']}; give the same --bits and --pool, or another --state"
            )
    if session.bundle.release < store.get("release", 0):
        raise StateError(
            f"{session.bundle.path} is release {session.bundle.release}; {store.path} has seen "
            f"{store.get('release')}; use that one or a later one"
        )
    if session.bundle.release:
        store.keep(release=session.bundle.release)
    if damage := store.damage():
        for text in damage.values():
            _log.warning("%s; learning again what it held", text)
        store.discard(sorted(damage), "damaged")
    saved = store.read()
    if saved:
        _restore(session, store, saved)
    missed = [x for x in store.labels(saved.upto if saved else 0) if x.status == LEARNED]
    for start in range(0, len(missed), _CHUNK):
        held = store.with_latents(missed[start : start + _CHUNK])
        if held:
            session.replay(held)
    if missed:
        store.note("recovered", f"{len(missed)} labels learned again")
    _restore_history(session, store)
    if len(missed) >= _MANY:  # so that a crash loop does not learn them at every start
        with suppress(StateError):
            session.save("after recovery")


def _restore(session: Session, store: Store, saved: State) -> None:
    facts, learning = saved.facts, saved.arrays["learning"]
    session.classes.extend(facts["classes"])
    session.n_taught, session.version = int(facts["n_taught"]), int(facts["version"])
    session.next_publish = float(facts["next_publish"])
    session.credit_macs = float(facts["credit_macs"])
    session.good_weights = saved.arrays["adaptive"]
    session.good_rehearsed = saved.arrays["classifier"]["rehearsed"]
    ridge, admission = (
        {n.partition(".")[2]: a for n, a in learning.items() if n.startswith(f"{part}.")}
        for part in ("ridge", "admission")
    )
    session.classifier.restore(saved.arrays["classifier"], ridge)
    session.admission.restore(admission)
    _restore_memory(session, store, learning, facts["memory"])
    _restore_canary(session.canary, store, learning, facts["canary"])
    weights = saved.arrays.get("trainer") or session.good_weights
    session.learner.restore(weights, learning["rows"], learning["prior"])
    session.learner.cost = type(session.learner.cost)(**facts["cost"])
    if session.version:
        session.perception.publish(session.good_weights, session.version)


def _restore_memory(
    session: Session, store: Store, learning: dict[str, np.ndarray], facts: dict[str, Any]
) -> None:
    seqs, labels = learning["memory.seqs"], learning["memory.labels"]
    held, found = _held(store, seqs)
    records = np.zeros((0, session.codec.record_bytes), np.uint8)
    if held:
        records = np.stack([label.record for label in held if label.record is not None])
    arrays = {"records": with_seq(records, seqs[found]), "labels": labels[found]}
    budget = session.config.memory_bytes
    session.memory = LatentMemory.from_arrays(arrays, facts, budget)
    session.learner.memory = session.memory


def _restore_canary(
    canary: Canary, store: Store, learning: dict[str, np.ndarray], facts: dict[str, Any]
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
    held = store.with_latents(blank)
    there = {label.seq for label in held}
    found = np.array([i for i, seq in enumerate(seqs.tolist()) if seq in there], np.int64)
    if len(found) < len(seqs):
        store.notes.append(f"{len(seqs) - len(found)} latents of the memory are missing")
    return held, found


def _restore_history(session: Session, store: Store) -> None:
    """Read what was answered to each label before it was learned."""
    index = {name: i for i, name in enumerate(session.classes)}
    for label in store.labels():
        if label.status != UNDONE:
            session.history.labels.append(index.get(label.name, -1))
            session.history.predicted.append(index.get(label.predicted, -1))


def resume(bundle: Bundle, path: str | Path, n_threads: int = 1) -> Session:
    """Open a session on a state with the codec that the state has.

    Raises:
        StateError: there is none, or it cannot be used.
    """
    from plr_edge.runtime.session import Session

    with opened_for_reading(path) as store:
        kept = store.get("identity")
    codec = kept["codec"] if kept else {}
    return Session(bundle, path, AdaptConfig(**codec, n_threads=n_threads))
