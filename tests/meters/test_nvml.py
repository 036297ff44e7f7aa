"""NVML that counts, that only knows power, and that knows nothing, as on Orin."""

from __future__ import annotations

import sys

import pytest

from plr_edge.meters.base import PowerMeter
from plr_edge.meters.nvml import find_nvml


class FakeNvml:
    """Two GPUs; `energy_mj` and `power_mw` give None for NOT_SUPPORTED."""

    class NVMLError(Exception):
        pass

    def __init__(self, energy_mj: list[int | None], power_mw: list[int | None]) -> None:
        self.energy_mj, self.power_mw = energy_mj, power_mw

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self.energy_mj)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def _answer(self, value: int | None) -> int:
        if value is None:
            raise self.NVMLError("Not Supported")
        return value

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._answer(self.energy_mj[handle])

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._answer(self.power_mw[handle])


def find(nvml: FakeNvml, clock: list[int]) -> PowerMeter:
    meter = find_nvml(nvml=nvml, threaded=False, clock_ns=lambda: clock[0])
    assert isinstance(meter, PowerMeter), meter
    return meter


def test_energy_counter_is_preferred() -> None:
    nvml = FakeNvml([100, 200], [50_000, 50_000])
    meter = find(nvml, [0])
    meter.start()
    nvml.energy_mj = [1100, 2200]
    reading = meter.stop()
    assert reading.rails_mj == {"gpu0": 1000, "gpu1": 2000} and reading.total_mj == 3000


def test_power_is_integrated_where_nothing_counts() -> None:
    clock = [0]
    meter = find(FakeNvml([None], [30_000]), clock)
    meter.start()
    clock[0] = 4_000_000_000
    assert meter.stop().total_mj == 120_000


def test_gpu_that_does_not_answer_leaves_no_total() -> None:
    meter = find(FakeNvml([100, None], [1, None]), [0])
    meter.start()
    reading = meter.stop()
    assert reading.rails_mj == {"gpu0": 0} and reading.total_mj is None
    assert "gpu1 cannot be read" in reading.notes


def test_orin_starts_nvml_but_answers_nothing() -> None:
    reason = find_nvml(nvml=FakeNvml([None], [None]))
    assert isinstance(reason, str) and "Not Supported" in reason


def test_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "pip install" in str(find_nvml())
