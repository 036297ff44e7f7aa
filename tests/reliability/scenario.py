"""A full cycle of a store, and what must hold after it was cut short anywhere.

Everything is a function of the place in the order of teaching, so that a checker that knows only
what was acknowledged can say what must be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from plr_edge.errors import StateError
from plr_edge.store import LEARNED, MAX_REQUESTS, QUARANTINED, UNDONE, Label, Store, TeachRequest

RECORD_BYTES = 500
LABEL_BYTES = 9_000  # of latents kept: old ones are evicted within a cycle
Ack = Callable[[dict[str, object]], None]


def label(seq: int) -> Label:
    rng = np.random.default_rng(seq)
    return Label(
        name=f"class {seq % 3}",
        predicted="unknown",
        source=f"frame {seq}",
        time_ns=seq,
        status=QUARANTINED if seq % 11 == 0 else LEARNED,
        record=rng.integers(0, 256, RECORD_BYTES, dtype=np.uint8),
        taps=rng.standard_normal(20).astype(np.float16),
    )


def weights(number: int) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(number)
    return {group: {"w": rng.standard_normal(300).astype(np.float32)} for group in ("a", "b")}


def cycle(path: Path, ack: Ack, n_labels: int = 8, attempt: int = 0) -> None:
    """Open, teach, publish, undo, confirm, close; go on after whatever is refused."""

    said: set[int] = set()

    def attempted(act: Callable[[], dict[str, object]]) -> None:
        try:
            facts = act()
        except StateError:
            return
        said.update(facts.pop("seqs", []))  # type: ignore[call-overload]
        ack(facts)

    try:
        store = Store(path, label_bytes=LABEL_BYTES)
    except StateError:
        return
    first = store.last_seq + 1
    try:
        for i in range(n_labels):
            attempted(lambda n=1 + i % 3: taught(store, n))
            if i % 3 == 2:
                attempted(lambda: published(store))
        attempted(lambda: undone(store))
        attempted(lambda: published(store))
        attempted(lambda: confirmed(store))
        attempted(lambda: taught(store, 2))
        attempted(lambda: no_ghost(store, first, said))
    finally:
        store.close()


def recovery(path: Path, ack: Ack) -> None:
    """Open what a cut has left, as the next start does, and teach a little."""
    with Store(path, label_bytes=LABEL_BYTES) as store:
        ack(taught(store, 1))
    ack({"closed": True})


def taught(store: Store, n: int) -> dict[str, object]:
    first = store.last_seq + 1
    labels = [label(seq) for seq in range(first, first + n)]
    request = TeachRequest(f"key {first}", labels[-1].name, lambda x: {"last": x[-1].seq})
    seqs = store.teach(labels, request=request, position=first + n)
    assert seqs == list(range(first, first + n))
    return {"taught": seqs[-1], "seqs": seqs}


def no_ghost(store: Store, first: int, said: set[int]) -> dict[str, object]:
    """No label of this process that was refused is there as learned."""
    store.facts.keep(position=0)  # a write, after which nothing is in doubt
    there = store.labels.read(first - 1)
    ghosts = {x.seq for x in there if x.status == LEARNED and original(x)} - said
    assert not ghosts, f"refused, and there: {ghosts}"
    return {}


def published(store: Store) -> dict[str, object]:
    newest = store.generations.read()
    number = int(store.facts.get("last_generation", 0)) + 1
    held = [x.seq for x in store.labels if x.status == LEARNED][-3:]
    facts = {"number": number, "after": newest.generation if newest else 0}
    assert store.commit_generation(facts, weights(number), in_use=held) == number
    return {"published": number, "upto": store.last_seq}


def undone(store: Store) -> dict[str, object]:
    own = [x.seq for x in store.labels if x.status == LEARNED and original(x)]
    seqs = store.mark(own[-2:], UNDONE, "test")
    return {"undone": seqs}


def confirmed(store: Store) -> dict[str, object]:
    aside = [x.seq for x in store.labels.read(status=QUARANTINED)]
    return {"confirmed": store.confirm(aside), "last": store.last_seq}


def original(x: Label) -> bool:
    return x.source == f"frame {x.seq}"


def check(path: Path, acks: list[dict[str, object]]) -> None:
    """Open the store as the next start would, and compare it to what was acknowledged.

    Raises:
        AssertionError: something acknowledged is not there, or something is not what was written.
        StateError: the store cannot be opened.
    """
    if not acks and not path.exists():
        return
    last = max((int(str(a["taught"])) for a in acks if "taught" in a), default=0)
    undone_seqs = {seq for a in acks for seq in a.get("undone", [])}  # type: ignore[attr-defined]
    undone_seqs |= {seq for a in acks for seq in a.get("confirmed", [])}  # type: ignore[attr-defined]
    with Store(path, label_bytes=LABEL_BYTES) as store:
        assert store.last_seq >= last, f"labels to {last} acknowledged, {store.last_seq} there"
        labels = {x.seq: x for x in store.labels}
        for seq in range(1, last + 1):
            assert seq in labels, f"label {seq} lost"
        answered = {answer["last"] for answer in store.requests.answers().values()}
        evicted = min(answered) if len(answered) == MAX_REQUESTS else 0
        kept = {int(str(a["taught"])) for a in acks if "taught" in a}
        assert answered >= {seq for seq in kept if seq > evicted}, "an answer was lost"
        assert answered <= labels.keys(), "an answer without its labels"
        for seq in undone_seqs:
            assert labels[seq].status == UNDONE, f"label {seq} is {labels[seq].status} again"
        for x in store.labels.with_latents([x for x in labels.values() if original(x)]):
            expected = label(x.seq)
            assert np.array_equal(x.record, expected.record), f"latent {x.seq} is another"
            assert np.array_equal(x.taps, expected.taps), f"taps {x.seq} are others"
        state = store.generations.read()
        assert not store.notes, store.notes
        numbers = [int(str(a["published"])) for a in acks if "published" in a]
        dropped = any("undone" in a for a in acks[_last(acks, "published") :])
        if numbers and not dropped and not _undo_in_flight(store, labels, undone_seqs):
            assert state is not None and state.generation >= numbers[-1], "generation lost"
        if state is not None:
            assert state.facts["number"] == state.generation
            for group, arrays in weights(state.generation).items():
                assert np.array_equal(state.arrays[group]["w"], arrays["w"])
            in_use = [labels[seq] for seq in state.facts["in_use"]]
            held = store.labels.with_latents(in_use)
            assert len(held) == len(in_use), "a latent in use was evicted"


def _last(acks: list[dict[str, object]], key: str) -> int:
    return max((i for i, ack in enumerate(acks) if key in ack), default=0)


def _undo_in_flight(store: Store, labels: dict[int, Label], acknowledged: set[int]) -> bool:
    """An undo that was durable but not yet acknowledged has dropped generations, rightly."""
    return any(x.status == UNDONE and x.seq not in acknowledged for x in labels.values())


def parse(text: bytes) -> list[dict[str, object]]:
    """Return the acknowledgements in what a worker printed; a torn last line counts as none."""
    return [json.loads(line) for line in text.split(b"\n")[:-1] if line]
