"""The joules of every board: what is measured is right, what cannot be measured is absent.

The load of rail number i is 2 + i + (1 + i / 2) sin(t) W over eight seconds; its integral is
8 (2 + i) + (1 + i / 2) (1 - cos 8) J by hand. A counter stands at the integral up to now.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from fake_boards import BUILDERS, FakeBoard, make_board

from plr_edge.meters.base import PowerMeter
from plr_edge.meters.hwmon import find_ina3221
from plr_edge.meters.rapl import find_rapl

SECONDS, TICK_S = 8.0, 0.8  # the trapezoid is off by 0.4 % at most
START_J = 90.0  # the counters of the tree wrap at 100 J


def watts(i: int, t: float) -> float:
    return 2 + i + (1 + i / 2) * math.sin(t)


def joules(i: int, t: float) -> float:
    return (2 + i) * t + (1 + i / 2) * (1 - math.cos(t))


def load(fake: FakeBoard, t: float, missing: Path | None) -> None:
    """Write what the sensors show at second `t`, and leave a file that is missing so."""
    counts = fake.name == "desktop"
    for i, rail in enumerate(fake.rails):
        fake.set_w({rail: START_J + joules(i, t) if counts else watts(i, t)})
    if missing is not None:
        missing.unlink(missing_ok=True)


def measure(
    fake: FakeBoard, missing: Path | None = None, since_s: float = 0.0
) -> tuple[dict[str, float], float | None]:
    """Return the joules of each rail and the total; `missing` goes away at `since_s`."""
    now = [0.0]
    find = find_rapl if fake.name == "desktop" else find_ina3221
    load(fake, 0.0, missing if since_s <= 0 else None)
    meter = find(fake.sysfs, interval_s=None, clock_ns=lambda: round(now[0] * 1e9))
    if not isinstance(meter, PowerMeter):
        return {}, None
    meter.start()
    for tick in range(1, round(SECONDS / TICK_S) + 1):
        now[0] = tick * TICK_S
        load(fake, now[0], missing if since_s <= now[0] else None)
        if now[0] < SECONDS:
            meter.sample()
    reading = meter.stop()
    assert reading.samples == round(SECONDS / TICK_S) + 1
    total_j = None if reading.total_mj is None else reading.total_mj / 1e3
    return {rail: mj / 1e3 for rail, mj in reading.rails_mj.items()}, total_j


def by_hand(fake: FakeBoard, lost: str | None = None) -> tuple[dict[str, float], float | None]:
    """Return the joules of the rails, and of the total, where rail `lost` cannot be read."""
    rails = {rail: joules(i, SECONDS) for i, rail in enumerate(fake.rails)}
    parts = fake.board.total_rails or tuple(set(rails) & {"package-0", "package-0/dram"})
    total = sum(rails[part] for part in parts) if parts and lost not in parts else None
    rails.pop(lost or "", None)
    return rails, total


def assert_right(measured: tuple, expected: tuple) -> None:
    """Compare joules of rails and total to one percent; what is absent must be absent."""
    assert measured[0] == pytest.approx(expected[0], rel=0.01)
    assert measured[1] == (None if expected[1] is None else pytest.approx(expected[1], rel=0.01))


@pytest.mark.parametrize("name", BUILDERS)
def test_varying_load_gives_the_joules_by_hand_within_one_percent(tmp_path: Path, name: str):
    fake = make_board(name, tmp_path)
    assert_right(measure(fake), by_hand(fake))


def every_file() -> list[tuple[str, str]]:
    """Return each file of each board that has a sensor, relative to its tree."""
    found = []
    for name in BUILDERS:
        with tempfile.TemporaryDirectory() as folder:
            fake = make_board(name, Path(folder))
            found += [(name, str(path.relative_to(fake.root))) for path in fake.files()]
    return found


FILES = every_file()


@pytest.mark.parametrize(("name", "file"), FILES)
def test_without_any_one_file_its_rail_and_total_are_absent_and_the_others_right(
    tmp_path: Path, name: str, file: str
):
    fake = make_board(name, tmp_path)
    lost = fake.owners.get(fake.root / file)
    measured = measure(fake, missing=fake.root / file)
    expected = by_hand(fake, lost)
    if "powercap" in file and file.endswith("/name"):  # a nameless zone is a rail of its own
        rails = {rail: j for rail, j in measured[0].items() if rail in expected[0]}
        assert lost not in measured[0]
        assert_right((rails, measured[1]), ({rail: expected[0][rail] for rail in rails}, None))
    else:
        assert_right(measured, expected)


@pytest.mark.parametrize(
    ("name", "file"), [pair for pair in FILES if "input" in pair[1] or "energy_uj" in pair[1]]
)
def test_file_that_goes_away_during_a_measurement_takes_its_rail_along(
    tmp_path: Path, name: str, file: str
):
    fake = make_board(name, tmp_path)
    path = fake.root / file
    lost = fake.owners[path] if path in fake.values else None
    assert_right(measure(fake, missing=path, since_s=4.0), by_hand(fake, lost))
