import pytest
from hypothesis import given
from hypothesis import strategies as st

from plr_edge.errors import ScheduleError
from plr_edge.replay.schedule import SCHEDULES, Schedule, apportion, fully_connected, make_schedule

# the authors' architectures and code; arithmetic of `relative_cost` with biases counted
TABLE = [
    ((1024, 2000, 2000, 100), "internal", (1, 0, 0), 1.000),
    ((1024, 2000, 2000, 100), "basic", (0.333, 0.333, 0.333), 0.568),
    ((1024, 2000, 2000, 100), "cumulative_weights", (0.030, 0.044, 0.926), 0.089),
    ((1024, 2000, 2000, 100), "total_weights", (0.085, 0.044, 0.871), 0.142),
    ((1024, 2000, 2000, 100), "input_size", (0.204, 0.398, 0.398), 0.484),
    ((1024, 2000, 2000, 100), "layer_idx", (0.167, 0.333, 0.500), 0.407),
    ((1024, 1000, 1000, 1000, 100), "basic", (0.25,) * 4, 0.514),
    ((1024, 1000, 1000, 1000, 100), "cumulative_weights", (0.027, 0.041, 0.078, 0.854), 0.109),
    ((1024, 1000, 1000, 1000, 100), "total_weights", (0.075, 0.077, 0.077, 0.771), 0.179),
    ((1024, 1000, 1000, 1000, 100), "layer_idx", (0.1, 0.2, 0.3, 0.4), 0.353),
]


@pytest.mark.parametrize(("widths", "name", "shares", "cost"), TABLE)
def test_schedules_are_those_of_the_authors_to_the_digit(widths, name, shares, cost):
    levels = fully_connected(widths)
    schedule = make_schedule(name, levels)
    assert [round(s, 3) for s in schedule.shares] == pytest.approx(shares, abs=5.1e-4)
    assert round(schedule.relative_cost([x.weights for x in levels]), 3) == cost


@pytest.mark.parametrize("name", [*SCHEDULES, "1,2,3"])
def test_shares_add_up_to_one_and_reach_ends_at_one(name):
    schedule = make_schedule(name, fully_connected((8, 6, 5, 4)))
    assert sum(schedule.shares) == pytest.approx(1.0)
    assert schedule.reach[-1] == pytest.approx(1.0)
    assert list(schedule.reach) == sorted(schedule.reach)


def test_measured_costs_give_cheap_levels_more():
    schedule = make_schedule("measured", fully_connected((8, 6, 5)), step_costs=(30.0, 10.0))
    assert schedule.shares == pytest.approx((0.25, 0.75))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("basics", "did you mean 'basic'"),
        ("1,2", "2 shares for 3 levels"),
        ("0,0,0", "not all 0"),
        ("1,-1,1", "at least 0"),
        ("nan,1,1", "at least 0"),
        ("measured", "plr-edge profile"),
    ],
)
def test_a_wrong_schedule_says_what_is_right(spec, says):
    with pytest.raises(ScheduleError, match=says):
        make_schedule(spec, fully_connected((8, 6, 5, 4)))


@given(
    st.lists(st.floats(0, 100), min_size=1, max_size=8).filter(lambda s: sum(s) > 1e-6),
    st.integers(0, 4096),
)
def test_apportion_adds_up_and_is_never_off_by_one_or_more(shares, n):
    counts = apportion(shares, n)
    assert sum(counts) == n
    for share, count in zip(shares, counts, strict=True):
        assert abs(count - n * share / sum(shares)) < 1 + 1e-6


def test_shares_that_do_not_add_up_are_refused():
    with pytest.raises(ScheduleError, match="add up"):
        Schedule(name="wrong", shares=(0.5, 0.4))
