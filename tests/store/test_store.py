import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plr_edge.errors import StateError
from plr_edge.store import LEARNED, QUARANTINED, UNDONE, Label, Store, read_state


def label(i=0, name="a", status=LEARNED, n_bytes=64):
    record = np.full(n_bytes, i % 256, np.uint8)
    taps = np.full(4, i % 100, np.float16)
    return Label(
        name=name, predicted="b", source=f"f{i}", time_ns=i, status=status, record=record, taps=taps
    )


def arrays(value):
    return {"memory": {"x": np.full(3, value, np.float32)}, "adaptive": {"w": np.ones((2, 2))}}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "s") as opened:
        yield opened


def test_what_is_taught_is_there_after_opening_again(tmp_path):
    with Store(tmp_path / "s") as store:
        assert store.teach([label(1), label(2, "é/ü")], positions={"film": 7}) == [1, 2]
    with Store(tmp_path / "s") as store:
        found = store.with_latents(list(store.labels()))
        assert [(x.seq, x.name) for x in found] == [(1, "a"), (2, "é/ü")]
        np.testing.assert_array_equal(found[1].record, label(2).record)
        np.testing.assert_array_equal(found[1].taps, label(2).taps)
        assert store.get("positions") == {"film": 7}
        assert store.last_seq == 2


def test_the_two_newest_generations_are_kept(store):
    for value in (1, 2, 3):
        store.publish({"classes": ["a"]}, {"memory": {"x": np.full(3, value, np.float32)}})
    assert [g["generation"] for g in store.generations()] == [2, 3]
    state = store.read()
    assert (state.generation, state.facts["classes"]) == (3, ["a"])
    np.testing.assert_array_equal(state.arrays["memory"]["x"], [3, 3, 3])
    files = sorted(f.name[:6] for f in (store.path / "generations").iterdir())
    assert files == ["000002"] * 2 + ["000003"] * 2


def test_groups_can_be_read_alone(tmp_path):
    with Store(tmp_path / "s") as store:
        store.publish({}, {k: {n: a.astype(np.float32) for n, a in v.items()}
                           for k, v in arrays(1).items()})  # fmt: skip
    assert set(read_state(tmp_path / "s", groups=("memory",)).arrays) == {"memory"}


def test_a_damaged_generation_gives_way_to_the_one_before(store):
    for value in (1, 2):
        store.publish({}, {"memory": {"x": np.full(3, value, np.float32)}})
    (file,) = (store.path / "generations").glob("000002.memory.*")
    file.write_bytes(file.read_bytes()[:-1])
    state = store.read()
    assert state.generation == 1 and "generation 2 is damaged" in state.notes[0]


def test_undoing_a_label_drops_the_generations_that_learned_it(store):
    store.teach([label(1), label(2)])
    store.publish({}, {})
    store.teach([label(3)])
    store.publish({}, {})
    assert store.mark([3], UNDONE, "wrong") == [3]
    assert store.read().generation == 1
    assert [x.status for x in store.labels()] == [LEARNED, LEARNED, UNDONE]
    assert store.mark([1], UNDONE, "wrong") == [1]
    assert store.read() is None
    assert store.mark([1], UNDONE, "again") == []


def test_rollback_sets_later_labels_aside(store):
    store.teach([label(1)])
    store.publish({}, {})
    store.teach([label(2)])
    store.publish({}, {})
    store.teach([label(3)])
    assert store.rollback() == 2
    assert store.read().generation == 1
    with pytest.raises(StateError, match="no generation older"):
        store.rollback()
    assert store.publish({}, {}) == 3  # a number is never used twice


def test_forgetting_leaves_no_byte_of_a_class(tmp_path):
    with Store(tmp_path / "s") as store:
        secret = Label(
            name="secret-name", predicted="x", source="secret-source", time_ns=0,
            record=np.frombuffer(b"secret-latent" * 9, np.uint8), taps=np.zeros(4, np.float16),
        )  # fmt: skip
        store.teach([label(1), secret, label(3)])
        store.publish({"classes": ["a", "secret-name"]}, {})
        assert store.forget("secret-name") == 1
        assert store.read() is None
        assert [x.seq for x in store.labels()] == [1, 3]
    for file in (tmp_path / "s").rglob("*"):
        assert not file.is_file() or b"secret" not in file.read_bytes()
    with Store(tmp_path / "s") as store:
        assert store.teach([label(4)]) == [4]


def test_a_quarantined_label_is_taught_anew_when_it_is_confirmed(store):
    store.teach([label(1), label(2, status=QUARANTINED)])
    store.publish({}, {})
    assert store.confirm([1, 2]) == [2]
    assert [(x.seq, x.status) for x in store.labels()] == [
        (1, LEARNED), (2, UNDONE), (3, LEARNED),
    ]  # fmt: skip
    assert store.read().upto == 2  # so that the confirmed one is still to be learned


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=5, max_size=30),
    cap=st.integers(500, 4000),
    in_use=st.sets(st.integers(1, 30), max_size=4),
)
def test_latents_stay_below_their_cap_and_those_in_use_stay(sizes, cap, in_use):
    import tempfile

    with tempfile.TemporaryDirectory() as folder, Store(folder, label_bytes=cap) as store:
        for i, size in enumerate(sizes):
            store.teach([label(i, n_bytes=size)])
        in_use = {seq for seq in in_use if seq <= len(sizes)}
        store.publish({}, {}, in_use=sorted(in_use))
        held = store.with_latents(list(store.labels()))
        assert in_use <= {x.seq for x in held}
        loose = sum(x.record.nbytes + x.taps.nbytes for x in held if x.seq not in in_use)
        assert loose <= cap
        assert len(list(store.labels())) == len(sizes)


def test_a_second_writer_is_refused_at_once_and_told_who_is_first(tmp_path):
    store = Store(tmp_path / "s")
    start = time.monotonic()
    with pytest.raises(StateError, match=f"in use by process {os.getpid()}"):
        Store(tmp_path / "s")
    assert time.monotonic() - start < 1.0  # the promise: the waiting is a part of it
    store.close()
    Store(tmp_path / "s").close()


def test_a_writer_that_is_killed_leaves_no_lock_behind(tmp_path, monkeypatch):
    import signal

    for _ in range(100):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            Store(tmp_path / "s")
            os.write(writer, b"x")
            signal.pause()
        os.read(reader, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)
        Store(tmp_path / "s").close()


@pytest.mark.parametrize("how", ["link", "everybody", "older", "newer"])
def test_directories_that_are_not_ours_are_refused(tmp_path, how):
    path = tmp_path / "s"
    if how == "link":
        (tmp_path / "real").mkdir()
        path.symlink_to(tmp_path / "real")
    elif how == "everybody":
        path.mkdir()
        path.chmod(0o777)
    elif how == "older":
        path.mkdir()
        (path / "state.json").write_text("{}")
    else:
        with Store(path) as store:
            store.keep(schema=99)
    with pytest.raises(StateError, match=r"link|anybody|older version|schema 99"):
        Store(path)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_generation_that_is_no_plain_file_is_not_read(store, kind, tmp_path):
    store.publish({}, {"memory": {"x": np.ones(3, np.float32)}})
    (file,) = (store.path / "generations").glob("*.memory.*")
    data = file.read_bytes()
    file.unlink()
    if kind == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(file)
    else:
        file.mkdir()
    assert store.read() is None and "damaged" in store.notes[0]


def test_a_state_on_a_medium_that_cannot_be_written_is_read_from_a_copy(tmp_path, monkeypatch):
    with Store(tmp_path / "s") as store:
        store.teach([label(1)])
        store.publish({"n": 1}, {})
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert read_state(tmp_path / "s").facts["n"] == 1


def test_times_that_jump_change_no_order(store, monkeypatch):
    for time_ns in (10**18, 5, 2**62, 7):
        monkeypatch.setattr(time, "time_ns", lambda t=time_ns: t)
        store.teach([label(time_ns)])
        store.publish({}, {})
    assert [x.seq for x in store.labels()] == [1, 2, 3, 4]
    assert store.read().generation == 4


def test_repair_saves_every_row_that_is_whole(tmp_path):
    from plr_edge.store import repair

    with Store(tmp_path / "s") as store:
        store.teach([label(i, f"class-{i}") for i in range(20)])
        store.publish({"bundle": "b", "frozen_sha256": "f", "codec": {}},
                      {k: {"x": np.ones(3, np.float32)}
                       for k in ("adaptive", "classifier", "learning")})  # fmt: skip
    file = tmp_path / "s" / "store.db"
    data = bytearray(file.read_bytes())
    data[data.index(b"class-7") + 6] ^= 1
    file.write_bytes(data)
    with pytest.raises(StateError, match="plr-edge repair"):
        Store(tmp_path / "s")
    saved = repair(tmp_path / "s")
    assert saved == {"labels": 19, "latents": 20, "generations": 1, "labels_lost": 1}
    with Store(tmp_path / "s") as store:
        assert [x.name for x in store.labels()] == [f"class-{i}" for i in range(20) if i != 7]
        assert store.read().generation == 1
    file.write_bytes(b"no database at all")
    assert repair(tmp_path / "s")["generations"] == 1
    with Store(tmp_path / "s") as store:
        assert store.read().generation == 1
