import numpy as np

from plr_edge.replay.feature_cache import FeatureCache
from plr_edge.replay.schedule import Level
from plr_edge.replay.working_set import WorkingSet


def filled(capacity=600, n_slots=5000, n_classes=10):
    working = WorkingSet(capacity, n_slots)
    labels = np.arange(n_slots) % n_classes
    slots = np.arange(capacity)
    working.admit(slots, labels[slots])
    return working, labels


def test_each_member_has_an_index_of_its_own_within_the_capacity():
    working, labels = filled()
    rng = np.random.default_rng(0)
    for _ in range(300):
        slots = rng.choice(5000, 48, replace=False)
        working.admit(slots, labels[slots])
        for slot in rng.choice(5000, 5):
            working.remove(int(slot))
        members = working.slots
        indices = working.indices(members)
        assert len(members) <= 600 and len(set(members.tolist())) == len(members)
        assert len(set(indices.tolist())) == len(indices) and indices.min() >= 0
        assert (working.indices(np.setdiff1d(np.arange(5000), members)) == -1).all()


def test_the_oldest_member_of_the_largest_class_is_evicted():
    working = WorkingSet(6, 100)
    working.admit(np.array([10, 11, 12]), np.array([0, 0, 0]))
    working.admit(np.array([13, 20, 30]), np.array([0, 1, 2]))
    working.admit(np.array([10]), np.array([0]))  # becomes the youngest again
    freed = working.admit(np.array([31]), np.array([2]))
    assert sorted(working.slots.tolist()) in (
        [10, 11, 13, 20, 30, 31],
        [10, 12, 13, 20, 30, 31],
    )
    assert len(freed) == 1


def test_a_flood_of_one_class_leaves_room_for_the_others():
    working, _ = filled()
    for start in range(1000, 4000, 16):
        working.admit(np.arange(start, start + 16), np.full(16, 10))
    counts = np.bincount(working._labels[working._slots >= 0])
    assert counts.sum() == 600 and counts.max() - counts.min() <= 16


def test_members_are_drawn_with_the_same_odds_for_each_class():
    working = WorkingSet(600, 5000)
    working.admit(np.arange(540), np.zeros(540, int))
    working.admit(np.arange(540, 600), np.ones(60, int))
    rng = np.random.default_rng(0)
    drawn = np.concatenate([working.sample(8, rng) for _ in range(500)])
    assert (np.diff(np.sort(drawn.reshape(500, 8), axis=1)) > 0).all()
    # 4,000 draws at odds of a half, a little less as they are different: 6 sigma is 190
    assert abs((drawn >= 540).sum() - 2000) < 190


def test_features_of_a_slot_outside_the_working_set_are_not_held():
    levels = tuple(Level(name=str(i), shape=(4,), weights=1, macs=1) for i in range(3))
    cache = FeatureCache(levels, 100_000, budget_bytes=600 * 2 * 2 * 4)
    assert cache.working_set is not None and cache.holds(2)
    slots = np.arange(cache.capacity)
    cache.admit(slots, slots % 7)
    x = np.arange(4 * len(slots), dtype=np.float32).reshape(-1, 4) % 1000
    cache.put(2, slots, x, stamp=3)
    np.testing.assert_array_equal(cache.get(2, slots[5:9]), x[5:9])
    np.testing.assert_array_equal(cache.ages(2, np.array([1, 99_999]), stamp=10), [7, -1])
    cache.put(2, np.array([99_999, 2]), x[:2], stamp=11)
    np.testing.assert_array_equal(cache.ages(2, np.array([99_999, 2]), stamp=11), [-1, 0])
    cache.admit(np.array([99_999]), np.array([50]))  # evicts another, whose features are gone
    assert cache.ages(2, np.array([99_999]), stamp=11)[0] == -1
    assert (cache.ages(2, slots, stamp=11) == -1).sum() == 1


def test_a_cache_that_fits_no_working_set_holds_nothing():
    levels = tuple(Level(name=str(i), shape=(4,), weights=1, macs=1) for i in range(3))
    cache = FeatureCache(levels, 100_000, budget_bytes=511 * 2 * 4)
    assert cache.working_set is None and cache.capacity == 0 and not cache.holds(2)
    assert FeatureCache(levels, 100, budget_bytes=100 * 2 * 2 * 4).working_set is None
