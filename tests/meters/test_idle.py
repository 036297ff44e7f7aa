"""Gross, idle and net joules on a board whose power is set by hand."""

from __future__ import annotations

import pytest

from plr_edge.meters import measure_idle, net_energy
from plr_edge.meters.base import PowerMeter
from plr_edge.meters.hwmon import find_ina3221


def meter_of(fake, now: list[float]) -> PowerMeter:
    meter = find_ina3221(fake.sysfs, interval_s=None, clock_ns=lambda: round(now[0] * 1e9))
    assert isinstance(meter, PowerMeter)
    return meter


def test_net_is_gross_less_the_idle_power_over_the_same_time(fake_board) -> None:
    fake, now = fake_board("agx-orin"), [0.0]
    meter = meter_of(fake, now)
    fake.set_total_w(8.0)

    def sleep(seconds: float) -> None:
        for _ in range(4):
            now[0] += seconds / 4
            meter.sample()

    idle = measure_idle([meter], 2.0, sleep)
    fake.set_total_w(20.0)
    meter.start()
    now[0] += 3.0
    net = net_energy(meter.stop(), idle["ina3221"])
    assert net is not None
    assert net.gross_mj == pytest.approx(60_000)
    assert net.idle_mj == pytest.approx(24_000)
    assert net.net_mj == pytest.approx(36_000)
    assert (net.idle_w, net.idle_seconds, net.idle_samples) == (pytest.approx(8.0), 2.0, 6)
    assert (net.seconds, net.samples) == (3.0, 2)


def test_without_a_total_there_is_no_net_energy(fake_board) -> None:
    fake, now = fake_board("agx-thor"), [0.0]
    (fake.sysfs / "devices/platform/i2c/2-0044/hwmon/hwmon2/power1_input").unlink()
    meter = meter_of(fake, now)
    idle = measure_idle([meter], 1.0, lambda s: now.__setitem__(0, now[0] + s))
    meter.start()
    now[0] += 1.0
    assert net_energy(meter.stop(), idle["ina3221"]) is None
