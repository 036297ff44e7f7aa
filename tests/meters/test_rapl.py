"""Powercap trees with counters that wrap, hide or go back."""

from __future__ import annotations

from pathlib import Path

import pytest

from plr_edge.meters.base import PowerMeter
from plr_edge.meters.rapl import find_rapl


def zone(sysfs: Path, folder: str, name: str, energy_uj: int, range_uj: int = 262_143_000) -> Path:
    path = sysfs / "class/powercap" / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


def find(sysfs: Path, clock: list[int]) -> PowerMeter:
    meter = find_rapl(sysfs, interval_s=None, clock_ns=lambda: clock[0])
    assert isinstance(meter, PowerMeter), meter
    return meter


def test_difference_of_the_counter_is_the_energy(tmp_path: Path) -> None:
    clock = [0]
    package = zone(tmp_path, "intel-rapl:0", "package-0", 7_000)
    meter = find(tmp_path, clock)
    meter.start()
    clock[0] = 2_000_000_000
    (package / "energy_uj").write_text("20007000\n")
    reading = meter.stop()
    assert reading.rails_mj == {"package-0": 20_000}
    assert (reading.total_mj, reading.seconds, reading.mean_w) == (20_000, 2.0, 10.0)


def test_counter_wraps_at_its_range_between_any_two_samples(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, range_uj=1_000_000)
    meter = find(tmp_path, [0])
    meter.start()
    for energy_uj in (100_000, 700_000, 50_000):  # +200 mJ, +600 mJ, +350 mJ
        (package / "energy_uj").write_text(str(energy_uj))
        meter.sample()
    assert meter.stop().total_mj == 1_150


def test_counter_that_goes_back_without_a_range_is_absent(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    (package / "max_energy_range_uj").unlink()
    meter = find(tmp_path, [0])
    meter.start()
    (package / "energy_uj").write_text("100")
    reading = meter.stop()
    assert reading.rails_mj == {} and reading.total_mj is None
    assert "package-0 absent: its counter decreased" in reading.notes


def test_total_is_packages_and_memory_but_neither_cores_nor_psys(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    zone(tmp_path, "intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl:0:1", "dram", 1)
    zone(tmp_path, "intel-rapl:1", "package-1", 1)
    zone(tmp_path, "intel-rapl:2", "psys", 1)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1)
    meter = find(tmp_path, [0])
    assert meter.total_rails == ("package-0", "package-1", "package-0/dram")
    assert set(meter.rails) == {*meter.total_rails, "package-0/core", "psys"}


def test_permission_denied_says_how_to_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    read_text = Path.read_text

    def denied(self: Path, *args: object, **kwargs: object) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", denied)
    reason = find_rapl(tmp_path)
    assert isinstance(reason, str) and "\n" not in reason
    assert "udev" in reason and "group" in reason


def test_counter_that_ends_unreadable_is_absent_and_in_between_is_bridged(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = find(tmp_path, [0])
    meter.start()
    (package / "energy_uj").write_text("")
    meter.sample()
    (package / "energy_uj").write_text("5000")
    assert meter.stop().total_mj == 5
    meter.start()
    (package / "energy_uj").unlink()
    assert meter.stop().rails_mj == {}


def test_machine_without_powercap_gives_a_reason(tmp_path: Path) -> None:
    assert str(find_rapl(tmp_path)).startswith("rapl: ")
