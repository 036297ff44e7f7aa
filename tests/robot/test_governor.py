import pytest
from hypothesis import given
from hypothesis import strategies as st

from plr_edge.errors import ConfigError
from plr_edge.replay.schedule import Schedule, fully_connected, make_schedule
from plr_edge.robot.governor import Budget, Governor, Reading

SCHEDULE = Schedule(name="by hand", shares=(0.05, 0.15, 0.8))
STEP_S = (0.1, 0.05, 0.01)
MEAN_S = 0.05 * 0.1 + 0.15 * 0.05 + 0.8 * 0.01


def governor(**budget):
    return Governor(Budget(**budget), SCHEDULE, STEP_S)


def test_a_duty_is_a_rate_at_the_measured_cost():
    one = governor(duty_share=0.3)
    for _ in range(30):
        decision = one.decide(Reading())
    assert decision.steps_per_s == pytest.approx(0.3 / MEAN_S)
    one.observe_costs([2 * cost for cost in STEP_S])
    for _ in range(30):
        decision = one.decide(Reading())
    assert decision.steps_per_s == pytest.approx(0.15 / MEAN_S)
    assert str(decision) == "at a duty of 30%: 7.3 steps/s, levels .05/.15/.80"


@pytest.mark.parametrize(
    ("budget", "bad", "good"),
    [
        ({"power_w": 7}, {"power_w": 7.5}, {"power_w": 5.0}),
        ({"deadline_ms": 33}, {"latency_ms": 40.0}, {"latency_ms": 10.0}),
        ({"max_temp_c": 80}, {"temp_c": 79.0}, {"temp_c": 60.0}),
        ({}, {"pressure": 0.9}, {"pressure": 0.1}),
    ],
)
def test_training_gives_way_at_once_and_comes_back_slowly(budget, bad, good):
    one = governor(**budget)
    full = one.decide(Reading(**good)).steps_per_s
    first = one.decide(Reading(**bad, steps_per_s=full)).steps_per_s
    second = one.decide(Reading(**bad, steps_per_s=first)).steps_per_s
    assert first <= 0.5 * full and second <= 0.5 * first  # two seconds to a quarter
    rates = [one.decide(Reading(**good)).steps_per_s for _ in range(12)]
    assert rates == sorted(rates) and rates[0] < 0.5 * full and rates[-1] == full


def test_costs_are_those_measured_and_levels_without_a_measurement_scale_along():
    one = governor()
    one.observe_costs([0.2, None, 0.02])
    assert one.step_s == pytest.approx((0.2, 0.1, 0.02))
    one.observe_costs([None] * 3)
    assert one.step_s == pytest.approx((0.2, 0.1, 0.02))
    assert one.schedule is SCHEDULE  # made by hand, so it stays


def test_the_schedule_measured_follows_what_steps_cost():
    schedule = make_schedule("measured", fully_connected([64, 32, 16, 4]), STEP_S)
    one = Governor(Budget(duty_share=0.5), schedule, STEP_S)
    one.observe_costs([0.1, 0.05, 0.0105])  # less than a tenth of a share: not worth a message
    assert one.schedule is schedule
    one.observe_costs([0.1, 0.1, 0.1])
    assert one.schedule.shares == pytest.approx((1 / 3,) * 3)
    assert one.decide(Reading()).shares == one.schedule.shares


def test_a_board_that_is_much_too_hot_does_not_train():
    one = governor(max_temp_c=80)
    assert one.decide(Reading(temp_c=86.0)).steps_per_s == 0
    assert one.decide(Reading(temp_c=60.0)).steps_per_s > 0


def test_without_budgets_a_trainer_steps_as_fast_as_it_can():
    assert governor().decide(Reading()).steps_per_s == pytest.approx(1 / MEAN_S)
    cheap = Governor(Budget(), SCHEDULE, [1e-6] * 3)
    assert cheap.decide(Reading()).steps_per_s == 200


def test_deadline_does_not_bind_a_robot_without_frames():
    assert governor(deadline_ms=33).decide(Reading()).steps_per_s == pytest.approx(1 / MEAN_S)


@pytest.mark.parametrize("budget", [{"power_w": 7}, {"max_temp_c": 80}])
def test_budget_whose_reading_is_gone_counts_as_exceeded(budget):
    one = governor(**budget)
    rates = [one.decide(Reading(power_w=None, temp_c=None)).steps_per_s for _ in range(20)]
    assert rates == sorted(rates, reverse=True) and rates[-1] == 0.05
    assert "nothing to read" in one.decide(Reading()).reason


@given(st.floats(0.1, 7 * 0.95), st.floats(0.1, 7 * 0.95))
def test_nearer_to_the_limit_the_rate_rises_more_slowly(one_w, other_w):
    rises = []
    for power_w in sorted((one_w, other_w)):
        one = governor(power_w=7)
        low = one.decide(Reading(power_w=99, steps_per_s=1)).steps_per_s
        rises.append(one.decide(Reading(power_w=power_w)).steps_per_s - low)
    assert rises[0] >= rises[1] >= 0


@given(
    st.lists(
        st.builds(
            Reading,
            power_w=st.none() | st.floats(0, 100),
            temp_c=st.none() | st.floats(-40, 120),
            latency_ms=st.none() | st.floats(0, 1e4),
            pressure=st.none() | st.floats(0, 1),
            steps_per_s=st.floats(0, 1e3),
        ),
        max_size=30,
    )
)
def test_the_rate_stays_within_its_bounds_whatever_is_read(readings):
    one = governor(power_w=7, duty_share=0.5, deadline_ms=33, max_temp_c=80)
    for reading in readings:
        assert 0 <= one.decide(reading).steps_per_s <= 0.5 / MEAN_S + 0.05


def test_boards_get_frequencies_of_their_own():
    """Costs of one step by level, as `plr-edge profile` would measure them."""
    boards = {"slow at convolutions": (0.4, 0.3, 0.02), "fast": (0.02, 0.018, 0.01)}
    shares, rates = {}, {}
    for name, step_s in boards.items():
        schedule = make_schedule("measured", fully_connected([64, 32, 16, 4]), step_s)
        one = Governor(Budget(duty_share=0.3), schedule, step_s)
        shares[name], rates[name] = schedule.shares, one.decide(Reading()).steps_per_s
    assert shares["slow at convolutions"][-1] > shares["fast"][-1]
    assert rates["fast"] > rates["slow at convolutions"]


@pytest.mark.parametrize("name", ["power_w", "duty_share", "deadline_ms", "max_temp_c"])
def test_budgets_are_checked(name):
    with pytest.raises(ConfigError, match="above 0"):
        Budget(**{name: 0})


def test_make_schedule_is_what_the_governor_keeps(bundle_path):
    from plr_edge.bundle.reading import open_bundle

    levels = open_bundle(bundle_path).levels
    schedule = make_schedule("basic", levels)
    one = Governor(Budget(), schedule, [0.01] * len(levels))
    assert one.decide(Reading()).shares == schedule.shares
