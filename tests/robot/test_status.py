from dataclasses import fields
from itertools import product

from plr_edge.robot.status import (
    DEGRADED,
    FACTORY,
    LEARNING,
    PAUSED,
    SERVING,
    STARTING,
    STARVED,
    STATES,
    STOPPING,
    RobotStatus,
    state_of,
)

NAMES = [field.name for field in fields(RobotStatus)]
TEXTS = ("trouble", "starved", "consolidating", "relearning")
VALUES = [("", "why") if name.endswith(TEXTS) else (False, True) for name in NAMES]
ALL = [RobotStatus(**dict(zip(NAMES, values, strict=True))) for values in product(*VALUES)]


def expected(c):
    """The table, a line a state, the first that applies."""
    table = [
        (STOPPING, c.stopping),
        (STARTING, not c.started),
        (DEGRADED, c.source_trouble or c.disk_trouble or c.other_trouble or c.trainer_given_up),
        (FACTORY, c.factory_trouble),
        (LEARNING, c.relearning),
        (PAUSED, c.paused),
        (STARVED, c.starved),
        (LEARNING, c.to_train or c.consolidating),
        (SERVING, True),
    ]
    return next(state for state, applies in table if applies)


def test_every_condition_has_the_state_of_the_table():
    assert len(ALL) == 8192
    assert [state_of(c)[0] for c in ALL] == [expected(c) for c in ALL]
    assert {state_of(c)[0] for c in ALL} == set(STATES)


def test_a_reason_is_given_where_one_is_due_and_only_there():
    for condition in ALL:
        state, reason = state_of(condition)
        due = state in (DEGRADED, FACTORY, STARVED) or (
            state == LEARNING and (condition.relearning or condition.consolidating)
        )
        assert bool(reason) == bool(due)


def test_every_trouble_is_named():
    _, reason = state_of(
        RobotStatus(source_trouble="no frames", disk_trouble="disk full", trainer_given_up=True)
    )
    assert "no frames" in reason and "disk full" in reason and "trainer" in reason


def test_it_serves_where_what_is_seen_is_answered_with_what_was_taught():
    for c in ALL:
        answers = c.started and not c.stopping and not c.source_trouble and not c.factory_trouble
        assert c.serves == (answers and not (c.relearning and c.is_blank))
        troubles = (c.source_trouble, c.disk_trouble, c.other_trouble, c.factory_trouble)
        assert c.is_troubled == bool(any(troubles) or c.trainer_given_up)


def test_one_event_leads_from_any_state_to_that_of_the_table():
    """States x events: each condition with one of its facts turned over."""
    for condition in ALL:
        for name, values in zip(NAMES, VALUES, strict=True):
            for value in values:
                after = RobotStatus(**{**vars(condition), name: value})
                assert state_of(after)[0] == expected(after)
