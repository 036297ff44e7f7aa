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

SECONDS, TICK_S = 8.0, 0.05
WRAPS = 15.0  # J at the start: the counters wrap at 100 J


def watts(i: int, t: float) -> float:
    return 2 + i + (1 + i / 2) * math.sin(t)


def joules(i: int, t: float) -> float:
    return (2 + i) * t + (1 + i / 2) * (1 - math.cos(t))


def load(fake: FakeBoard, t: float, missing: Path | None) -> None:
    """Write what the sensors show at second `t`, and leave a file that is missing so."""
    counts = fake.name == "desktop"
    for i, rail in enumerate(fake.rails):
        fake.set_w({rail: 75.0 + joules(i, t) if counts else watts(i, t)})
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
    parts = fake.board.total_rails
    if fake.name == "desktop":
        parts = ("package-0", "package-0/dram")
    total = None if not parts or lost in parts else sum(rails[part] for part in parts)
    if lost in ("package-0", "package-0/core") and fake.name == "desktop":
        total = None
    rails.pop(lost or "", None)
    return rails, total


@pytest.mark.parametrize("name", BUILDERS)
def test_varying_load_gives_the_joules_by_hand_within_one_percent(tmp_path: Path, name: str):
    fake = make_board(name, tmp_path)
    rails, total = measure(fake)
    rails_by_hand, total_by_hand = by_hand(fake)
    assert rails == pytest.approx(rails_by_hand, rel=0.01)
    assert total == (None if total_by_hand is None else pytest.approx(total_by_hand, rel=0.01))


def every_file() -> list[tuple[str, str]]:
    """Return each file of each board that has a sensor, relative to its tree."""
    found = []
    for name in BUILDERS:
        with tempfile.TemporaryDirectory() as folder:
            fake = make_board(name, Path(folder))
            found += [(name, str(path.relative_to(fake.root))) for path in fake.files()]
    return found


@pytest.mark.parametrize(("name", "file"), every_file())
def test_without_any_one_file_its_rail_and_total_are_absent_and_the_others_right(
    tmp_path: Path, name: str, file: str
):
    fake = make_board(name, tmp_path)
    path = fake.root / file
    rails, total = measure(fake, missing=path)
    rails_by_hand, total_by_hand = by_hand(fake, fake.owners.get(path))
    for rail in rails:  # a nameless zone is reported as such, and never as the one it was
        if rail in rails_by_hand:
            assert rails[rail] == pytest.approx(rails_by_hand[rail], rel=0.01)
        else:
            assert "unnamed" in rail or rail.startswith("intel-rapl:0/")
    lost = set(rails_by_hand) - set(rails)
    assert not lost or (file.endswith("intel-rapl:0/name") and total is None)
    assert total == (None if total_by_hand is None else pytest.approx(total_by_hand, rel=0.01))


@pytest.mark.parametrize(
    ("name", "file"),
    [pair for pair in every_file() if "input" in pair[1] or "energy_uj" in pair[1]],
)
def test_file_that_goes_away_during_a_measurement_takes_its_rail_along(
    tmp_path: Path, name: str, file: str
):
    fake = make_board(name, tmp_path)
    path = fake.root / file
    rails, total = measure(fake, missing=path, since_s=4.0)
    owner = fake.owners.get(path) if path in fake.values else None
    rails_by_hand, total_by_hand = by_hand(fake, owner)
    if owner == "package-0/core":  # only the total's own parts are needed once they are known
        total_by_hand = by_hand(fake)[1]
    assert rails == pytest.approx(rails_by_hand, rel=0.01)
    assert total == (None if total_by_hand is None else pytest.approx(total_by_hand, rel=0.01))
