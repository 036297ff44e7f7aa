import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plr_edge.errors import ConfigError
from plr_edge.replay.latent_memory import LatentMemory

RECORD = 12


def filled(labels, budget_bytes, seed=0):
    memory = LatentMemory(RECORD, budget_bytes, seed)
    for i, label in enumerate(labels):
        record = np.frombuffer(np.array([i, label, 0], "<i4").tobytes(), np.uint8)
        memory.add(record, label)
    return memory


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=200), st.integers(RECORD + 4, 900))
def test_memory_never_grows_past_its_budget_and_every_class_keeps_its_place(labels, budget):
    memory = filled(labels, budget)
    assert memory.n_bytes <= budget
    assert len(memory) == min(len(labels), memory.capacity)
    counts = np.bincount(memory.labels, minlength=6)
    fair = memory.capacity // max(len(set(labels)), 1)
    for label in set(labels):
        assert counts[label] >= min(labels.count(label), fair)
    for record, label in zip(memory.records(), memory.labels, strict=True):
        index, kept, _ = np.frombuffer(record.tobytes(), "<i4")
        assert labels[index] == kept == label


def test_each_record_of_a_class_is_kept_with_equal_odds():
    kept = np.zeros(40)
    for seed in range(400):
        memory = filled([0] * 40, 10 * (RECORD + 4), seed)
        for record in memory.records():
            kept[np.frombuffer(record.tobytes(), "<i4")[0]] += 1
    # 100 expected each; 6 sigma of a binomial(400, 0.25) is 52
    assert abs(kept - 100).max() < 52


def test_sampling_favours_no_class():
    memory = filled([0] * 90 + [1] * 10, 10_000)
    rng = np.random.default_rng(3)
    drawn = np.concatenate([memory.labels[memory.sample(2, rng)] for _ in range(1000)])
    # half of each expected; 6 sigma of a binomial(2000, 0.5) is 135
    assert abs((drawn == 1).sum() - 1000) < 135
    assert len(set(memory.sample(50, rng).tolist())) == 50


def test_an_empty_memory_is_saved_and_comes_back():
    again = LatentMemory.from_arrays(*LatentMemory(RECORD, 400).to_arrays())
    assert again.add(np.zeros(RECORD, np.uint8), 3) == 0
    assert again.sample(4, np.random.default_rng(0)).tolist() == [0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200))
def test_a_small_sample_has_different_slots_that_are_held(labels):
    memory = filled(labels, 30 * (RECORD + 4))
    slots = memory.sample(5, np.random.default_rng(1))
    assert len(set(slots.tolist())) == min(5, len(memory))
    assert all(0 <= slot < len(memory) for slot in slots)


def test_what_is_saved_comes_back_and_goes_on_the_same():
    memory = filled([0, 1, 2] * 30, 40 * (RECORD + 4))
    arrays, facts = memory.to_arrays()
    again = LatentMemory.from_arrays(arrays, facts)
    record = np.zeros(RECORD, np.uint8)
    assert [memory.add(record, i % 4) for i in range(50)] == [
        again.add(record, i % 4) for i in range(50)
    ]
    np.testing.assert_array_equal(memory.records(), again.records())


def test_a_smaller_budget_trims_the_largest_classes():
    memory = filled([0] * 30 + [1] * 6, 1000)
    arrays, facts = memory.to_arrays()
    smaller = LatentMemory.from_arrays(arrays, facts, 12 * (RECORD + 4))
    assert np.bincount(smaller.labels).tolist() == [6, 6]


def test_a_budget_below_one_record_is_refused():
    with pytest.raises(ConfigError, match="give at least 16"):
        LatentMemory(RECORD, 15)
