"""A robot's health as a diagnostic message."""

from types import SimpleNamespace

import pytest

from plr_edge.ros.diagnostics import OK, WARN, diagnostics_of

TYPES = SimpleNamespace(
    DiagnosticArray=SimpleNamespace, DiagnosticStatus=SimpleNamespace, KeyValue=SimpleNamespace
)
HEALTH = {
    "state": "serving", "reason": "", "frames": 7, "power_w": None, "energy_j": None,
    "trainer": {"alive": True, "deaths": 0, "latents": 300},
}  # fmt: skip


def status(health=HEALTH, **given):
    given = {"active": True, "silent_s": 0.1, "refusal": "", "n_refused": 0, **given}
    (made,) = diagnostics_of(health, TYPES, None, **given).status
    return made


def test_what_cannot_be_measured_is_absent_and_the_rest_is_text():
    values = {pair.key: pair.value for pair in status(n_refused=2).values}
    assert values == {
        "frames": "7", "trainer_alive": "True", "trainer_deaths": "0", "trainer_latents": "300",
        "images_refused": "2",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "level", "words"),
    [
        ({}, OK, "serving"),
        ({"active": False, "silent_s": 99.0}, OK, "inactive"),
        ({"silent_s": 6.0}, WARN, "no image for 6 s"),
        ({"refusal": "32FC1"}, WARN, "images cannot be read: 32FC1"),
        (
            {"health": {**HEALTH, "state": "degraded", "reason": "it dies"}, "active": False},
            WARN, "degraded: it dies",
        ),
    ],
)  # fmt: skip
def test_a_robot_that_sees_nothing_or_is_degraded_warns(given, level, words):
    made = status(**given)
    assert (made.level, made.message) == (level, words)
