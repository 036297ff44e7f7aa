import threading
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.stores import label

from plr_edge.errors import StateError
from plr_edge.store import Store, TeachRequest, read_state


def arrays(value):
    return {"memory": {"x": np.full(3, value, np.float32)}, "adaptive": {"w": np.ones((2, 2))}}


def test_what_is_taught_is_there_after_opening_again(tmp_path):
    with Store(tmp_path / "s") as store:
        assert store.teach([label(1), label(2, "é/ü")], positions={"film": 7}) == [1, 2]
    with Store(tmp_path / "s") as store:
        found = store.labels.with_latents(list(store.labels))
        assert [(x.seq, x.name) for x in found] == [(1, "a"), (2, "é/ü")]
        np.testing.assert_array_equal(found[1].record, label(2).record)
        np.testing.assert_array_equal(found[1].taps, label(2).taps)
        assert store.facts.get("positions") == {"film": 7}
        assert store.last_seq == 2


def test_the_two_newest_generations_are_kept(store):
    for value in (1, 2, 3):
        arrays = {"memory": {"x": np.full(3, value, np.float32)}}
        store.commit_generation({"classes": ["a"]}, arrays)
    assert [g.number for g in store.generations] == [2, 3]
    state = store.generations.read()
    assert (state.generation, state.facts["classes"]) == (3, ["a"])
    np.testing.assert_array_equal(state.arrays["memory"]["x"], [3, 3, 3])
    files = sorted(f.name[:6] for f in (store.path / "generations").iterdir())
    assert files == ["000002"] * 2 + ["000003"] * 2


def test_groups_can_be_read_alone(tmp_path):
    with Store(tmp_path / "s") as store:
        store.commit_generation({}, {k: {n: a.astype(np.float32) for n, a in v.items()}
                           for k, v in arrays(1).items()})  # fmt: skip
    assert set(read_state(tmp_path / "s", groups=("memory",)).arrays) == {"memory"}


def test_a_damaged_generation_gives_way_to_the_one_before(store):
    for value in (1, 2):
        store.commit_generation({}, {"memory": {"x": np.full(3, value, np.float32)}})
    (file,) = (store.path / "generations").glob("000002.memory.*")
    file.write_bytes(file.read_bytes()[:-1])
    state = store.generations.read()
    assert state.generation == 1 and "generation 2 is damaged" in state.notes[0]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=5, max_size=30),
    cap=st.integers(500, 4000),
    in_use=st.sets(st.integers(1, 30), max_size=4),
)
def test_latents_stay_below_their_cap_and_those_in_use_stay(quick_path, sizes, cap, in_use):
    own = quick_path / str(len(list(quick_path.iterdir())))
    with Store(own, label_bytes=cap) as store:
        for i, size in enumerate(sizes):
            store.teach([label(i, n_bytes=size)])
        in_use = {seq for seq in in_use if seq <= len(sizes)}
        store.commit_generation({}, {}, in_use=sorted(in_use))
        held = store.labels.with_latents(list(store.labels))
        assert in_use <= {x.seq for x in held}
        loose = sum(x.record.nbytes + x.taps.nbytes for x in held if x.seq not in in_use)
        assert loose <= cap
        assert len(list(store.labels)) == len(sizes)


def test_times_that_jump_change_no_order(store, monkeypatch):
    for time_ns in (10**18, 5, 2**62, 7):
        monkeypatch.setattr(time, "time_ns", lambda t=time_ns: t)
        store.teach([label(time_ns)])
        store.commit_generation({}, {})
    assert [x.seq for x in store.labels] == [1, 2, 3, 4]
    assert store.generations.read().generation == 4


def test_a_clock_that_goes_back_does_not_hold_the_day_open(store, monkeypatch):
    day = 86_400 * 10**9
    now, up, year = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), 365 * day
    written = []
    for jump, passed in ((10 * year, 0), (0, 0), (2 * day, 2 * day)):
        monkeypatch.setattr(time, "time_ns", lambda t=now + jump: t)
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _, t=up + passed: t)
        written.append(store.written_today)
        store.teach([label()])
    assert written[2] == 0  # ten years ahead and back, then two days later


def test_what_is_written_is_counted_as_the_device_sees_it(tmp_path, monkeypatch):
    from plr_edge.files import device_bytes_written
    from plr_edge.store import facts

    io = tmp_path / "io"
    io.write_text("rchar: 9\nwrite_bytes: 1000\ncancelled_write_bytes: 0\n")
    assert device_bytes_written(io) == 1000
    assert device_bytes_written(tmp_path / "none") is None
    counts = iter([50_000, 58_192])
    with Store(tmp_path / "s") as store:
        store._written._device_bytes = 40_000
        monkeypatch.setattr(facts, "device_bytes_written", lambda: next(counts))
        store.teach([label()])
        assert store.written_today == 10_000
        store.teach([label()])
        assert store.written_today == 18_192


def test_sources_that_are_no_text_are_kept_as_one_can_read_them(store):
    store.teach([label(source="photo\udcff\U0001f41e.jpg"), label(source="x" * 10_000)])
    sources = [x.source for x in store.labels]
    assert sources == ["photo\\udcff\U0001f41e.jpg", "x" * 1000]


def request(i, name="a"):
    return TeachRequest(f"k{i}", name, lambda labels: {"taught": i, "label": name})


def test_of_answers_to_requests_the_newest_are_kept(store, monkeypatch):
    monkeypatch.setattr("plr_edge.store.requests.MAX_REQUESTS", 20)
    for i in range(30):
        store.teach([], request=request(i))
    answers = store.requests.answers()
    assert "k9" not in answers
    assert [answers[f"k{i}"]["taught"] for i in (10, 29)] == [10, 29]
    assert len(answers) == 20


def test_an_error_of_one_thread_is_no_damage_to_another(store):
    store.teach([label(i) for i in range(1_200)])
    reading = store.labels.read()
    next(reading)
    store._database._abandon()  # as after a full disk
    with pytest.raises(StateError, match="try again"):
        list(reading)
    assert len(list(store.labels)) == 1_200


def test_closing_while_other_threads_read_ends_their_reading(tmp_path):
    """SQLite crashes where a connection is closed while another thread is in it."""
    for i in range(20):
        store = Store(tmp_path / str(i))
        store.teach([label(n) for n in range(40)])
        started, ends = threading.Barrier(4), []

        def read(store=store, started=started, ends=ends):
            started.wait()
            try:
                while True:
                    store.labels.with_latents(list(store.labels))
            except StateError as error:
                ends.append(str(error))

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(0.002 * i)
        store.close()
        for thread in threads:
            thread.join(10)
        assert len(ends) == 3 and all("closed" in end for end in ends)


def test_a_closed_store_is_not_opened_again_by_a_late_note(tmp_path):
    store = Store(tmp_path / "s")
    store.close()
    store.events.note("trainer", "too late")
    with pytest.raises(StateError, match="closed"):
        store.teach([label(1)])
    with Store(tmp_path / "s") as again:
        assert again.last_seq == 0 and not list(again.events)
