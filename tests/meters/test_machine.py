"""Temperatures, processes and the description of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_boards import BUILDERS

from plr_edge.meters import (
    METERS,
    GpuState,
    cpu_seconds,
    describe_machine,
    find_power_meters,
    process_memory,
    read_gpu,
    read_temperatures_c,
)
from plr_edge.meters.board import parse_nvpmodel


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def zone(sysfs: Path, number: int, name: str, temp: str | None) -> None:
    folder = sysfs / f"class/thermal/thermal_zone{number}"
    write(folder / "type", f"{name}\n")
    if temp is None:
        (folder / "temp").mkdir()  # reading it is an error, even for root
    else:
        write(folder / "temp", temp)


def test_offline_zones_are_absent(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "45125\n")
    zone(tmp_path, 1, "cv0-thermal", None)
    zone(tmp_path, 2, "cv1-thermal", "\n")
    zone(tmp_path, 3, "gpu-thermal", "-256000\n")
    zone(tmp_path, 10, "acpitz", "30000\n")
    zone(tmp_path, 9, "acpitz", "0\n")
    expected = {"cpu-thermal": 45.125, "acpitz": 0.0, "acpitz-10": 30.0}
    assert read_temperatures_c(tmp_path) == expected
    assert read_temperatures_c(tmp_path / "none") == {}


def test_memory_is_read_from_the_rollup(tmp_path: Path) -> None:
    write(tmp_path / "7/status", "Name:\tx\nVmHWM:\t  200 kB\nVmRSS:\t  100 kB\n")
    rollup = "00-ff ---p 00 [rollup]\nRss: 100 kB\nPss: 50 kB\nPrivate_Clean: 3 kB\n"
    write(tmp_path / "7/smaps_rollup", rollup + "Private_Dirty: 4 kB\n")
    assert process_memory(7, tmp_path) == {
        "rss_bytes": 102_400,
        "peak_rss_bytes": 204_800,
        "pss_bytes": 51_200,
        "uss_bytes": 7_168,
    }
    (tmp_path / "7/smaps_rollup").unlink()
    assert set(process_memory(7, tmp_path)) == {"rss_bytes", "peak_rss_bytes"}
    assert process_memory(8, tmp_path) == {}


def test_cpu_seconds_survive_a_name_with_brackets(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    write(tmp_path / "7/stat", f"7 (a ) b) S {'1 ' * 10}{ticks} {2 * ticks} 0 0\n")
    assert cpu_seconds(7, tmp_path) == 3.0
    assert cpu_seconds(8, tmp_path) is None


def test_machine_is_described_and_unknown_keys_are_absent(tmp_path: Path) -> None:
    assert set(describe_machine(tmp_path)) == {"arch", "python"}
    write(tmp_path / "proc/device-tree/model", "NVIDIA Jetson Orin Nano\0")
    write(tmp_path / "proc/cpuinfo", "processor\t: 0\nmodel name\t: ARMv8 rev 1\nprocessor\t: 1\n")
    write(tmp_path / "proc/meminfo", "MemFree: 1 kB\nMemTotal:        8 kB\n")
    write(tmp_path / "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: x\n")
    write(tmp_path / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil\n")
    facts = describe_machine(tmp_path)
    assert {key: facts[key] for key in facts if key not in ("arch", "python")} == {
        "board_model": "NVIDIA Jetson Orin Nano",
        "cpu_model": "ARMv8 rev 1",
        "n_cores": 2,
        "memory_bytes": 8192,
        "l4t_release": "36.4.3",
        "cpu_governor": "schedutil",
    }


def test_power_mode_is_the_name() -> None:
    assert parse_nvpmodel("NV Power Mode: MAXN\n0\n") == "MAXN"
    assert parse_nvpmodel("NVPM WARN: x\nNV Power Mode: MODE_15W\n2\n") == "15W"
    assert parse_nvpmodel("needs root") is None


def test_every_kind_is_a_meter_or_a_reason_in_one_line(tmp_path: Path) -> None:
    meters, reasons = find_power_meters(tmp_path)
    assert len(meters) + len(reasons) == len(METERS)
    assert all("\n" not in reason for reason in reasons)


def test_meters_load_neither_torch_nor_onnx() -> None:
    code = "import sys, plr_edge.meters; sys.exit(bool({'torch', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


JETSONS = [name for name in BUILDERS if name not in ("raspberry-pi-5", "desktop")]


@pytest.mark.parametrize("name", JETSONS)
def test_load_and_clock_of_the_gpu_are_read(fake_board, name: str) -> None:
    gpu = read_gpu(fake_board(name).sysfs)
    assert gpu == GpuState(
        load_share=0.375, freq_hz=306_000_000, min_freq_hz=306_000_000, max_freq_hz=624_750_000
    )


def test_gpu_that_is_absent_is_none_and_parts_of_it_too(fake_board) -> None:
    fake = fake_board("orin-nx")
    (fake.sysfs / "devices/platform/17000000.gpu/load").unlink()
    gpu = read_gpu(fake.sysfs)
    assert gpu is not None and gpu.load_share is None and gpu.freq_hz == 306_000_000
    assert read_gpu(fake_board("raspberry-pi-5").sysfs) is None


def test_state_of_a_jetson_is_described(fake_board) -> None:
    fake = fake_board("orin-nano-4gb")
    facts = describe_machine(fake.root)
    assert facts["power_mode"] == "7W_AI" and facts["clocks"] == "free"
    assert facts["fan_pwm"] == 0  # stands still, which is known
    assert "throttled_by" not in facts and "fan_profile" not in facts
    for path in fake.sysfs.glob("devices/system/cpu/cpu*/cpufreq/scaling_min_freq"):
        path.write_text("1510400\n")
    assert describe_machine(fake.root)["clocks"] == "free"
    (fake.sysfs / "class/devfreq/17000000.gpu/min_freq").write_text("624750000\n")
    write(fake.root / "etc/nvfancontrol.conf", "<FAN 1>\n\tFAN_DEFAULT_PROFILE cool\n")
    facts = describe_machine(fake.root)
    assert (facts["clocks"], facts["fan_profile"]) == ("held", "cool")


def test_throttling_is_named_and_a_fan_that_turns_is_none(fake_board) -> None:
    fake = fake_board("orin-nano-8gb")
    for number in (1, 2):  # GPU and fan
        (fake.sysfs / f"class/thermal/cooling_device{number}/cur_state").write_text("2\n")
    assert describe_machine(fake.root)["throttled_by"] == "gpu-throttle-alert"
    chip = fake.sysfs / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
    (chip / "curr1_crit_alarm").write_text("1\n")
    facts = describe_machine(fake.root)
    assert facts["throttled_by"] == "gpu-throttle-alert, VDD_IN crit"


def test_power_mode_that_is_not_in_the_table_is_absent(fake_board) -> None:
    fake = fake_board("agx-thor")
    assert describe_machine(fake.root)["power_mode"] == "120W"
    (fake.root / "var/lib/nvpmodel/status").write_text("pmode:0009\n")
    assert "power_mode" not in describe_machine(fake.root)


@pytest.mark.parametrize("name", BUILDERS)
def test_without_any_one_file_what_it_said_is_absent_and_nothing_else_changes(
    fake_board, name: str
) -> None:
    fake = fake_board(name)
    machine, zones_c, gpu = (
        describe_machine(fake.root), read_temperatures_c(fake.sysfs), read_gpu(fake.sysfs)
    )  # fmt: skip
    for file in fake.files():
        text = file.read_bytes()
        file.unlink()
        assert describe_machine(fake.root).items() <= machine.items(), file
        assert read_temperatures_c(fake.sysfs).items() <= zones_c.items(), file
        without = read_gpu(fake.sysfs)
        if gpu is not None and without is not None:
            pairs = zip(vars(without).values(), vars(gpu).values(), strict=True)
            assert all(value in (None, before) for value, before in pairs), file
        file.write_bytes(text)
    assert describe_machine(fake.root) == machine
