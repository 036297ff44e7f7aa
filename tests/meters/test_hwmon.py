"""Fake sysfs trees of each board, and power that is known exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from plr_edge.meters.base import PowerMeter
from plr_edge.meters.hwmon import find_ina3221


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.now_ns = 5_000_000_000

    def __call__(self) -> int:
        return self.now_ns

    def forward(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1e9)


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def ina3221(sysfs: Path, address: str, rails: list[tuple[str, int, int]], n: int = 1) -> Path:
    """Make a chip: label, mV and mA per channel; NC has no current file, as on a board."""
    device = sysfs / "devices/i2c" / address
    chip = device / f"hwmon/hwmon{n}"
    write(chip / "name", "ina3221")
    for index, (label, millivolts, milliamperes) in enumerate(rails, start=1):
        write(chip / f"in{index}_label", label)
        write(chip / f"in{index}_input", millivolts)
        write(chip / f"curr{index}_input", milliamperes)
    write(chip / "in7_label", "sum of shunt voltages")
    write(chip / "in7_input", 12345)
    for link, target in (
        (sysfs / "bus/i2c/drivers/ina3221" / address, device),
        (sysfs / f"class/hwmon/hwmon{n}", chip),
    ):
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
    return chip


def ina238(sysfs: Path, microwatts: int, n: int = 5) -> Path:
    chip = sysfs / f"class/hwmon/hwmon{n}"
    write(chip / "name", "ina238")
    write(chip / "power1_input", microwatts)
    write(chip / "in1_input", 12000)
    return chip


def find(sysfs: Path, clock: Clock) -> PowerMeter:
    meter = find_ina3221(sysfs, interval_s=None, clock_ns=clock)
    assert isinstance(meter, PowerMeter), meter
    return meter


def measure(meter: PowerMeter, clock: Clock, seconds: float = 10.0) -> None:
    with meter:
        clock.forward(seconds / 2)
        meter.sample()
        clock.forward(seconds / 2)


ORIN_NANO = [("VDD_IN", 5000, 1000), ("VDD_CPU_GPU_CV", 5000, 400), ("VDD_SOC", 5000, 200)]
AGX_ORIN_0 = [("VDD_GPU_SOC", 20000, 300), ("VDD_CPU_CV", 20000, 100), ("VIN_SYS_5V0", 5000, 600)]
AGX_ORIN_1 = [("NC", 5000, 99), ("VDDQ_VDD2_1V8AO", 5000, 200), ("NC", 5000, 99)]
THOR = [("VDD_GPU", 12000, 1000), ("VDD_CPU_SOC_MSS", 12000, 500), ("VIN_SYS_5V0", 5000, 600)]


@pytest.mark.parametrize("address", ["1-0040", "7-0040"], ids=["Orin Nano", "Xavier NX"])
def test_constant_power_times_time_is_the_energy_exactly(tmp_path: Path, address: str) -> None:
    clock = Clock()
    ina3221(tmp_path, address, ORIN_NANO)
    meter = find(tmp_path, clock)
    measure(meter, clock)
    reading = meter.reading
    assert reading is not None
    assert reading.rails_mj == {"VDD_IN": 50_000, "VDD_CPU_GPU_CV": 20_000, "VDD_SOC": 10_000}
    assert (reading.total_mj, reading.seconds, reading.samples) == (50_000, 10.0, 3)
    assert reading.mean_w == 5.0
    assert any("shared" in note for note in reading.notes)


def test_rising_power_is_a_trapezoid(tmp_path: Path) -> None:
    clock = Clock()
    chip = ina3221(tmp_path, "1-0040", ORIN_NANO)
    meter = find(tmp_path, clock)
    meter.start()
    write(chip / "curr1_input", 3000)
    clock.forward(2)
    assert meter.stop().total_mj == 20_000  # (5 W + 15 W) / 2 * 2 s


def test_agx_orin_has_no_total_rail_and_says_what_was_summed(tmp_path: Path) -> None:
    clock = Clock()
    ina3221(tmp_path, "1-0040", AGX_ORIN_0, n=1)
    ina3221(tmp_path, "1-0041", AGX_ORIN_1, n=2)
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None
    assert set(meter.rails) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}
    assert meter.reading.total_mj == (6000 + 2000 + 3000 + 1000) * 10
    assert any("below a wall meter" in note for note in meter.reading.notes)


def test_agx_orin_without_one_of_its_rails_has_no_total(tmp_path: Path) -> None:
    clock = Clock()
    ina3221(tmp_path, "1-0040", AGX_ORIN_0)
    chip = ina3221(tmp_path, "1-0041", AGX_ORIN_1, n=2)
    (chip / "curr2_input").unlink()
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None
    assert meter.reading.total_mj is None
    assert "VDDQ_VDD2_1V8AO" not in meter.reading.rails_mj
    assert "VDDQ_VDD2_1V8AO is not readable" in meter.reading.notes


def test_agx_xavier_sums_two_chips(tmp_path: Path) -> None:
    clock = Clock()
    ina3221(tmp_path, "1-0040", [(name, 1000, 1000) for name in ("GPU", "CPU", "SOC")])
    ina3221(tmp_path, "1-0041", [(name, 1000, 1000) for name in ("CV", "VDDRQ", "SYS5V")], n=2)
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None and meter.reading.total_mj == 60_000


def test_thor_takes_its_total_from_the_ina238_in_microwatts(tmp_path: Path) -> None:
    clock = Clock()
    ina3221(tmp_path, "2-0040", THOR)
    ina238(tmp_path, 40_000_000)
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None
    assert meter.reading.rails_mj["VIN"] == 400_000  # 40 W for 10 s
    assert meter.reading.total_mj == 400_000
    assert meter.reading.rails_mj["VDD_GPU"] == 120_000


def test_thor_without_its_ina238_has_rails_and_no_total(tmp_path: Path) -> None:
    clock = Clock()
    ina3221(tmp_path, "2-0040", THOR)
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None
    assert len(meter.reading.rails_mj) == 3 and meter.reading.total_mj is None


def test_labels_in_another_order_are_the_same_rails(tmp_path: Path) -> None:
    clock = Clock()
    ina3221(tmp_path, "1-0040", ORIN_NANO[::-1])
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None and meter.reading.total_mj == 50_000


def test_older_driver_name_is_found(tmp_path: Path) -> None:
    chip = tmp_path / "bus/i2c/drivers/ina3221x/7-0040/hwmon/hwmon3"
    write(chip / "in1_label", "VDD_IN")
    write(chip / "in1_input", 5000)
    write(chip / "curr1_input", 1000)
    assert find(tmp_path, Clock()).rails == ("VDD_IN",)


def test_jetpack_4_gives_milliwatts(tmp_path: Path) -> None:
    clock = Clock()
    device = tmp_path / "bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    for number, (name, milliwatts) in enumerate([("POM_5V_IN", 3000), ("POM_5V_GPU", 500)]):
        write(device / f"rail_name_{number}", name)
        write(device / f"in_power{number}_input", milliwatts)
    meter = find(tmp_path, clock)
    measure(meter, clock)
    assert meter.reading is not None and meter.reading.total_mj == 30_000


def test_rail_that_goes_away_is_absent_and_not_zero(tmp_path: Path) -> None:
    clock = Clock()
    chip = ina3221(tmp_path, "1-0040", ORIN_NANO)
    meter = find(tmp_path, clock)
    meter.start()
    clock.forward(5)
    (chip / "in1_input").unlink()
    reading = meter.stop()
    assert "VDD_IN" not in reading.rails_mj and reading.total_mj is None
    assert reading.rails_mj["VDD_SOC"] == 5_000
    assert any(note.startswith("VDD_IN absent") for note in reading.notes)


def test_board_without_a_chip_gives_a_reason(tmp_path: Path) -> None:
    reason = find_ina3221(tmp_path)
    assert isinstance(reason, str) and reason.startswith("ina3221: ")
