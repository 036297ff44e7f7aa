"""Integration with a clock that moves only when told, and the background thread."""

from __future__ import annotations

import pytest

from plr_edge.meters.sampling import IntegratingMeter


class Bench:
    """A rail of 5 W, and its clock."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.values: dict[str, float] = {"VDD_IN": 5000.0}

    def meter(self, interval_s: float | None = None) -> IntegratingMeter:
        return IntegratingMeter(
            "bench",
            ("VDD_IN",),
            ("VDD_IN",),
            lambda: self.values,
            interval_s=interval_s,
            clock_ns=lambda: self.now_ns,
        )


@pytest.mark.parametrize(("n_failed", "reported"), [(1, True), (5, False)])
def test_a_few_failed_samples_are_bridged_and_many_are_not(n_failed: int, reported: bool) -> None:
    bench = Bench()
    meter = bench.meter()
    meter.start()
    for i in range(18):
        bench.values = {} if i < n_failed else {"VDD_IN": 5000.0}
        bench.now_ns += 1_000_000_000
        meter.sample()
    bench.now_ns += 1_000_000_000
    reading = meter.stop()
    assert reading.total_mj == (19 * 5000 if reported else None)
    assert any(note.startswith("VDD_IN") and str(n_failed) in note for note in reading.notes)


def test_second_measurement_starts_from_nothing() -> None:
    bench = Bench()
    meter = bench.meter()
    for seconds in (100, 10):
        meter.start()
        bench.now_ns += seconds * 1_000_000_000
        assert meter.stop().total_mj == 5000 * seconds


def test_no_time_gives_no_mean_power() -> None:
    with Bench().meter() as meter:
        pass
    assert meter.reading is not None and meter.reading.mean_w is None


def test_background_thread_samples_and_ends() -> None:
    meter = Bench().meter(interval_s=0.001)
    meter.start()
    thread = meter._thread
    assert thread is not None
    while meter._samples < 3:
        thread.join(0.001)
    assert meter.stop().samples >= 4
    assert not thread.is_alive()


def test_long_gap_between_samples_is_noted() -> None:
    bench = Bench()
    meter = bench.meter(interval_s=0.05)
    meter.start()
    bench.now_ns += 3_000_000_000
    assert "longest gap between samples 3.00 s" in meter.stop().notes
