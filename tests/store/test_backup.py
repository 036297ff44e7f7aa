"""Backups are whole although the state is in use, and come back the same."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from store.stores import IDENTITY, commit, label

from plr_edge.errors import StateError
from plr_edge.store import Store, back_up, repair, restore
from plr_edge.store.backup import outcome


def filled(path, n=20, name="a", identity=IDENTITY):
    with Store(path) as store:
        store.facts.keep(identity=identity)
        store.teach([label(i, name) for i in range(n)])
        commit(store)
    return path


def held(path):
    with Store(path) as store:
        assert not store.generations.damage()
        return [(x.seq, x.name, x.status) for x in store.labels]


def test_copies_made_while_labels_are_taught_hold_every_one_acknowledged_before(tmp_path):
    """In a process of its own, which folds its log often and writes generations."""
    code = (
        "import sys; from store.stores import commit, label; from plr_edge.store import Store\n"
        f"store = Store({str(tmp_path / 's')!r})\n"
        "i = 0\n"
        "while True:\n"
        "    i += 1\n"
        "    (seq,) = store.teach([label(i, f'class {i % 7}', n_bytes=900)])\n"
        "    print(seq, flush=True)\n"
        "    if i % 40 == 0: store._database.checkpoint()\n"
        "    if i % 90 == 0: commit(store)\n"
    )
    teaching = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    acknowledged = [0]

    def listen():
        for line in teaching.stdout:
            acknowledged.append(int(line))

    threading.Thread(target=listen, daemon=True).start()
    try:
        while acknowledged[-1] < 100:
            time.sleep(0.02)
            assert teaching.poll() is None
        for k in range(6):
            before = acknowledged[-1]
            report = back_up(tmp_path / "s", tmp_path / f"copy{k}")
            assert report.labels >= before and teaching.poll() is None
            assert not repair(tmp_path / f"copy{k}").changed
            seqs = [seq for seq, *_ in held(tmp_path / f"copy{k}")]
            assert seqs == list(range(1, len(seqs) + 1)) and len(seqs) == report.labels
    finally:
        teaching.kill()
        teaching.wait()


def test_tokens_and_locks_are_left_out(tmp_path):
    filled(tmp_path / "s")
    for name in ("token", "viewer-token", "tls.pem", "serving.json", "machine", ".token.0a1b2c3d",
                 "certificate.pem", "robot.key"):  # fmt: skip
        (tmp_path / "s" / name).write_text("secret")
    (tmp_path / "s" / "keys").mkdir()
    (tmp_path / "s" / "keys" / "robot.key").write_text("secret")
    back_up(tmp_path / "s", tmp_path / "copy")
    assert {p.name for p in (tmp_path / "copy").iterdir()} == {"store.db", "generations"}
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    restore(tmp_path / "copy", tmp_path / "other")
    held(tmp_path / "other")
    assert not {"token", "viewer-token", "tls.pem"} & {
        path.name for path in (tmp_path / "other").rglob("*")
    }


def test_what_is_not_whole_is_not_called_a_backup(tmp_path, monkeypatch):
    monkeypatch.setattr("plr_edge.store.backup._TRIES", 2)
    path = filled(tmp_path / "s")
    for file in (path / "generations").glob("*.adaptive.*"):
        file.write_bytes(b"damaged")
    with pytest.raises(StateError, match="no whole copy"):
        back_up(path, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    with pytest.raises(StateError, match="holds no state"):
        back_up(tmp_path / "none", tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    with pytest.raises(StateError, match="exists already"):
        back_up(filled(tmp_path / "t"), tmp_path / "copy")


def test_a_backup_comes_back_in_another_place_and_over_what_was_learned_since(tmp_path):
    path = filled(tmp_path / "s")
    then = held(path)
    back_up(path, tmp_path / "copy")
    filled(path, 5, "later")
    for target in (path, tmp_path / "other"):
        restore(tmp_path / "copy", target)
        assert held(target) == then and outcome(target)
        with Store(target) as store:
            np.testing.assert_array_equal(store.generations.read().arrays["adaptive"]["x"], 1)
            assert store.teach([label(1, "new")]) == [21]
    assert not (path / "restored").exists()


def test_a_store_that_is_open_goes_on_with_the_backup(tmp_path):
    path = filled(tmp_path / "s")
    back_up(path, tmp_path / "copy")
    with Store(path) as store:
        store.teach([label(i, "later") for i in range(30)])
        commit(store, 2)
        restore(tmp_path / "copy", path)
        commit(store, 3)  # deletes files that no row names, but none of the offer
        assert store.is_restore_offered and not outcome(path)
        store.take_restored()
        assert outcome(path) and store.last_seq == 20 and not store.generations.damage()
        assert {x.name for x in store.labels} == {"a"}
        assert store.teach([label(1, "new")]) == [21]
    assert held(path)[-1][1] == "new"


def test_an_open_store_refuses_a_backup_of_another_network_and_keeps_its_own(tmp_path):
    path = filled(tmp_path / "s")
    filled(tmp_path / "other", 3, "b", {**IDENTITY, "frozen_sha256": "another"})
    back_up(tmp_path / "other", tmp_path / "copy")
    with Store(path) as store:
        restore(tmp_path / "copy", path)
        with pytest.raises(StateError, match="another frozen part"):
            store.take_restored()
        assert store.last_seq == 20 and not store.is_restore_offered
    with pytest.raises(StateError, match="another frozen part"):
        outcome(path)
    assert outcome(path) and len(held(path)) == 20


@pytest.mark.parametrize("step", range(6))
def test_power_may_fail_at_any_step_of_taking_it(tmp_path, monkeypatch, step):
    path = filled(tmp_path / "s", 7, "old")
    filled(tmp_path / "b", 9, "back")
    back_up(tmp_path / "b", tmp_path / "copy")
    restore(tmp_path / "copy", path)
    calls = 0

    class Cut(BaseException):
        pass

    replace = os.replace

    def cut(source, target):
        nonlocal calls
        calls += 1
        if calls == step:
            raise Cut
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("plr_edge.store.replacing.os.replace", cut)
        try:
            Store(path).close()
        except Cut:
            pass
    assert {name for _, name, _ in held(path)} == {"back"}
    assert not (path / "restored").exists()
