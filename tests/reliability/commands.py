"""What takes back or mends, cut short anywhere: undo, forget, rollback, confirm, repair.

Each either happened as a whole or not at all; what was acknowledged did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import scenario

from plr_edge.errors import StateError
from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Store, repair

N_LABELS, HELD, DAMAGED = 15, 11, 5  # the quarantined one; the one whose row is damaged


def made(path: Path) -> None:
    """Make a store with two generations and labels after each."""
    with Store(path) as store:
        for n in (6, 6, 3):
            scenario.taught(store, n)
            if n == 6:
                groups = {**scenario.weights(store.last_seq), **_classifier()}
                store.commit_generation({"number": store.last_seq}, groups, in_use=[1, 2])


def damaged(path: Path) -> None:
    """Flip a bit of one label's row."""
    data = bytearray((path / "store.db").read_bytes())
    data[data.index(f"frame {DAMAGED}".encode())] ^= 1
    (path / "store.db").write_bytes(data)


def _classifier() -> dict[str, dict[str, np.ndarray]]:
    return {name: {"x": np.ones(3, np.float32)} for name in ("adaptive", "classifier", "learning")}


def undo(path: Path) -> None:
    with Store(path) as store:
        store.mark([8, 14], UNDONE, "test")


def forget(path: Path) -> None:
    with Store(path) as store:
        store.forget("class 1")


def rollback(path: Path) -> None:
    with Store(path) as store:
        store.rollback()


def confirm(path: Path) -> None:
    with Store(path) as store:
        store.confirm([HELD])


def mend(path: Path) -> None:
    repair(path)


COMMANDS: dict[str, Callable[[Path], None]] = {
    "undo": undo, "forget": forget, "rollback": rollback, "confirm": confirm, "repair": mend,
    "repair of a lost database": mend,
}  # fmt: skip


def prepare(name: str, path: Path) -> None:
    made(path)
    if name == "repair":
        damaged(path)
    elif name != "repair of a lost database":
        return
    else:
        (path / "store.db").unlink()


def attempt(name: str, path: Path, ack: scenario.Ack) -> None:
    """Run a command; acknowledge it if nothing refused."""
    try:
        COMMANDS[name](path)
    except StateError:
        return
    ack({"done": name})


def check(name: str, path: Path, done: bool) -> None:
    """Compare a store to what the command makes of it, or to what was there before.

    Raises:
        AssertionError: it is neither.
        StateError: it cannot be opened.
    """
    if name.startswith("repair"):
        repair(path)
    with Store(path) as store:
        labels = {x.seq: x for x in store.labels}
        state = store.generations.read()
        number = state.facts["number"] if state else 0
        held = {x.seq: x for x in store.labels.with_latents(list(labels.values()))}
        for seq, x in held.items():
            if seq <= N_LABELS:
                assert np.array_equal(x.record, scenario.label(seq).record), f"latent {seq}"
        assert held.keys() == labels.keys()
        EXPECTED[name](labels, number, done)
    if name == "forget" and 1 not in labels:
        for file in path.rglob("*"):
            assert not file.is_file() or b"class 1" not in file.read_bytes(), file


def _undone(labels: dict, number: int, done: bool) -> None:
    status = {labels[seq].status for seq in (8, 14)}
    assert len(status) == 1 and sorted(labels) == list(range(1, N_LABELS + 1))
    assert status == {UNDONE} or not done
    assert number == (6 if status == {UNDONE} else 12)


def _forgotten(labels: dict, number: int, done: bool) -> None:
    left = sorted(labels)
    gone = left == [seq for seq in range(1, N_LABELS + 1) if seq % 3 != 1]
    assert gone or (not done and left == list(range(1, N_LABELS + 1)))
    assert number == (0 if gone else 12)


def _rolled_back(labels: dict, number: int, done: bool) -> None:
    late = {x.status for seq, x in labels.items() if seq > 6 and seq != HELD}
    assert late == {UNDONE if number == 6 else LEARNED} and number in (6, 12)
    assert number == 6 or not done


def _confirmed(labels: dict, number: int, done: bool) -> None:
    was = labels[HELD].status
    assert was in (UNDONE, QUARANTINED) and (was == UNDONE or not done)
    assert (N_LABELS + 1 in labels) == (was == UNDONE)


def _repaired(labels: dict, number: int, done: bool) -> None:
    assert sorted(labels) == [seq for seq in range(1, N_LABELS + 1) if seq != DAMAGED]
    assert number == 12


def _found(labels: dict, number: int, done: bool) -> None:
    assert (labels, number) == ({}, 12)


EXPECTED: dict[str, Callable[[dict, int, bool], None]] = {
    "undo": _undone, "forget": _forgotten, "rollback": _rolled_back, "confirm": _confirmed,
    "repair": _repaired, "repair of a lost database": _found,
}  # fmt: skip
