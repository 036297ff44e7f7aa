import pytest
from hypothesis import given
from hypothesis import strategies as st

from plr_edge.errors import ConfigError
from plr_edge.replay.schedule import Schedule, fully_connected, make_schedule
from plr_edge.robot.governor import Budget, Governor, Reading
from plr_edge.robot.level_choice import LevelWorth
from plr_edge.robot.starvation import Starvation
from plr_edge.robot.step_costs import TrainingPower, level_costs

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


CROWD = {"trainer_cores": 0.02, "others_cores": 1.9}


@pytest.mark.parametrize(
    ("budget", "reading"),
    [({}, {"pressure": 0.85, **CROWD}), ({}, {"pressure": 0.6}),
     ({"deadline_ms": 33}, {"latency_ms": 90.0, **CROWD}),
     ({"duty_share": 0.3, "deadline_ms": 33}, {"latency_ms": 90.0, "pressure": 0.9, **CROWD})],
    ids=["frames wait", "who else is unknown", "frames are late", "within a duty"],
)  # fmt: skip
def test_training_keeps_a_floor_while_programs_compete_for_the_processor(budget, reading):
    """8 steps in six minutes were seen without it, with 400 to go."""
    one = governor(**budget)
    for _ in range(360):
        decision = one.decide(Reading(**reading, steps_per_s=0.02))
    assert decision.steps_per_s == pytest.approx(one.floor) == pytest.approx(0.05 / MEAN_S)
    assert decision.exceeded and decision.contended
    assert one.decide(Reading(pressure=0.0, steps_per_s=1)).steps_per_s > one.floor


def test_the_floor_is_within_a_duty_and_gives_way_to_watts_heat_and_a_deadline_that_is_too_tight():
    assert governor(duty_share=0.01).floor == pytest.approx(0.01 / MEAN_S)
    for budget, reading in (
        ({"power_w": 7}, {"power_w": 9.0}),
        ({"power_w": 7, "deadline_ms": 33}, {"power_w": 9.0, "latency_ms": 90.0}),
        ({"max_temp_c": 80}, {"temp_c": 79.0}),
        ({"deadline_ms": 33}, {"latency_ms": 90.0, "others_cores": 0.1, "trainer_cores": 0.5}),
    ):
        one = governor(**budget)
        for _ in range(60):
            decision = one.decide(Reading(**reading, pressure=0.9, steps_per_s=0.1))
        assert decision.steps_per_s == 0.05 and not decision.contended


def test_starving_is_said_with_figures_and_only_then():
    def after(seconds, wanted=True, **reading):
        one, starvation = governor(), Starvation(2)
        for _ in range(seconds):
            read = Reading(**reading)
            starvation.add(read, one.decide(read), one, 1.0, wanted=wanted)
        return starvation

    held = {"pressure": 0.8, "steps_per_s": 0.1, **CROWD}
    starved = after(60, **held)
    assert starved.facts() == {
        "steps_per_s": 0.1, "wanted_steps_per_s": round(1 / MEAN_S, 1), "trainer_cores": 0.02,
        "others_cores": 1.9, "cores": 2,
    }  # fmt: skip
    assert starved.text == (
        "training got 0.1 of 48.8 steps/s in the last 30 s (0.02 of a core); other programs take "
        "1.9 of 2 processors"
    )
    assert after(10, **held).facts() is None  # a moment is nothing
    assert after(60, wanted=False, **held).facts() is None
    assert after(60, steps_per_s=40.0).facts() is None
    assert after(60, steps_per_s=0.1).text.endswith("in the last 30 s")  # allowed, but not given
    hot = Governor(Budget(power_w=7), SCHEDULE, STEP_S)
    starvation = Starvation(2)
    for _ in range(60):  # a budget of the user's own is no starvation
        read = Reading(power_w=9.0, steps_per_s=0.05, **CROWD)
        starvation.add(read, hot.decide(read), hot, 1.0, wanted=True)
    assert starvation.facts() is None


def test_a_cycle_takes_the_share_of_a_core_that_training_had():
    one = governor(power_w=7)
    for _ in range(3):
        one.decide(Reading(power_w=9.0, steps_per_s=40.0))
    share = one.core_share
    one.consolidate(Schedule(name="auto", shares=(1.0, 0.0, 0.0)), "first level")
    assert one.core_share == pytest.approx(share)
    decision = one.decide(Reading(power_w=5.0, steps_per_s=1.0))
    assert decision.shares == (1.0, 0.0, 0.0) and str(decision).endswith("(first level)")
    assert decision.steps_per_s <= 1 / STEP_S[0]
    one.end_cycle()
    one.end_cycle()
    assert one.decide(Reading(power_w=5.0)).shares == SCHEDULE.shares


def test_watts_of_training_are_told_from_those_of_the_board():
    power = TrainingPower()
    for i in range(300):
        load = (i // 20) % 2 * 0.8
        power.add(5.0 + 3.0 * load + 0.05 * (-1) ** i, load)
    assert power.watts == pytest.approx(3.0, abs=0.1)
    rows = level_costs(["a", "b"], [0.0, 1.0], [0.1, 0.001], power.watts, [7, 5], [2.0, 0.3])
    assert rows[0]["step_mj"] == pytest.approx(300, rel=0.05) and rows[1]["needs_bytes"] == 5
    steady = TrainingPower()
    for _ in range(100):
        steady.add(5.0, 0.5)
        steady.add(None, 0.1)
    assert steady.watts is None  # what cannot be told is absent


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.floats(0, 1e4), st.floats(-100, 100), st.integers(0, 400)),
        max_size=40,
    )
)
def test_the_worth_of_levels_stays_finite_and_within_what_was_seen(cycles):
    worth = LevelWorth([25.0, 20.0, 15.0, 7.0, 0.1])
    for level, n_steps, gain, n in cycles:
        worth.observe(level, n_steps, gain, n)
    assert all(abs(g) < 1e4 for g in worth.gains)
    kept = LevelWorth([25.0, 20.0, 15.0, 7.0, 0.1], worth.facts())
    assert kept.gains == worth.gains
    assert LevelWorth([1.0, 0.1], worth.facts()).gains == pytest.approx([2.0, 0.3])
    names = list("abcde")
    choice = worth.choose(names, [10, 12, 16, 40, 900], [False, False, True, True, False])
    assert choice.level in (2, 3, 4)
