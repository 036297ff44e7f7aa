"""Lines of tegrastats as several releases print them, and a program that prints them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from plr_edge.meters.base import PowerMeter
from plr_edge.meters.tegrastats import find_tegrastats, parse_rails_mw

LINES = {
    "TX2, L4T 28": (
        "RAM 2135/7855MB (lfb 1057x4MB) CPU [2%@2035,0%@2035,off,off,2%@2036] "
        "EMC_FREQ 1%@1866 GR3D_FREQ 0%@1300 APE 150 MTS fg 0% bg 0% BCPU@30C PMIC@100C "
        "VDD_IN 3104/4029 VDD_CPU 291/730 VDD_GPU 145/207 VDD_SOC 727/746 VDD_WIFI 0/180 "
        "VDD_DDR 1248/1375",
        {"VDD_IN": 3104, "VDD_CPU": 291, "VDD_GPU": 145, "VDD_SOC": 727, "VDD_WIFI": 0,
         "VDD_DDR": 1248},
    ),
    "Nano, L4T 32": (
        "RAM 2145/3964MB (lfb 118x4MB) SWAP 0/1982MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
        "CPU [25%@1479,35%@1479,off,off] EMC_FREQ 10%@1600 GR3D_FREQ 0%@921 VIC_FREQ 0%@192 APE 25 "
        "PLL@25C CPU@46.5C PMIC@100C GPU@43C AO@45C thermal@46.2C "
        "POM_5V_IN 4250/4251 POM_5V_GPU 480/481 POM_5V_CPU 1520/1521",
        {"POM_5V_IN": 4250, "POM_5V_GPU": 480, "POM_5V_CPU": 1520},
    ),
    "AGX Xavier, L4T 32": (
        "RAM 2690/31919MB (lfb 6x1MB) SWAP 479/15959MB (cached 3MB) CPU [3%@1904,7%@1906,off,off] "
        "EMC_FREQ 0%@1600 GR3D_FREQ 0%@510 APE 150 AUX@39C CPU@39.5C Tboard@38C "
        "GPU 466/466 CPU 932/933 SOC 1398/1399 CV 0/0 VDDRQ 310/311 SYS5V 2160/2161",
        {"GPU": 466, "CPU": 932, "SOC": 1398, "CV": 0, "VDDRQ": 310, "SYS5V": 2160},
    ),
    "Xavier NX, L4T 35": (
        "RAM 2690/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU [3%@1904,7%@1906,off,off] "
        "EMC_FREQ 0%@1600 GR3D_FREQ 0%@[510] VIC_FREQ 601 APE 150 AUX@39C CPU@39.5C "
        "VDD_IN 5079mW/5080mW VDD_CPU_GPU_CV 696mW/697mW VDD_SOC 1104mW/1105mW",
        {"VDD_IN": 5079, "VDD_CPU_GPU_CV": 696, "VDD_SOC": 1104},
    ),
    "AGX Orin, L4T 36": (
        "11-20-2024 10:11:12 RAM 3456/62841MB (lfb 20x4MB) SWAP 0/31420MB (cached 0MB) "
        "CPU [12%@1420,8%@1420,off,off] EMC_FREQ 24%@2133 GR3D_FREQ 0%@[306,306] NVENC off "
        "cpu@52.5C soc2@50C cv0@-256C gpu@51C tj@53.5C VDD_GPU_SOC 2401mW/2402mW "
        "VDD_CPU_CV 800mW/801mW VIN_SYS_5V0 3325mW/3326mW NC 0mW/0mW VDDQ_VDD2_1V8AO 604mW/605mW "
        "NC 0mW/0mW",
        {"VDD_GPU_SOC": 2401, "VDD_CPU_CV": 800, "VIN_SYS_5V0": 3325, "VDDQ_VDD2_1V8AO": 604},
    ),
    "Thor, L4T 38": (
        "08-20-2026 10:11:12 RAM 4000/125800MB (lfb 2x4MB) CPU [1%@2601,off] GR3D_FREQ 0% "
        "cpu@40C tj@41C VDD_GPU 4000mW/4001mW VDD_CPU_SOC_MSS 9000mW/9001mW "
        "VIN_SYS_5V0 5000mW/5001mW VIN 33000mW/33001mW",
        {"VDD_GPU": 4000, "VDD_CPU_SOC_MSS": 9000, "VIN_SYS_5V0": 5000, "VIN": 33000},
    ),
}  # fmt: skip


@pytest.mark.parametrize("release", LINES)
def test_rails_of_a_line_are_its_present_power_and_nothing_else(release: str) -> None:
    line, rails = LINES[release]
    assert parse_rails_mw(line + "\n") == rails


@pytest.mark.parametrize("line", ["", "RAM 1/2MB", "VDD_IN", "VDD_IN 5/", "VDD_IN -5mW/3mW"])
def test_line_without_rails_has_none(line: str) -> None:
    assert parse_rails_mw(line) == {}


def program(folder: Path, body: str) -> str:
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def ended(pid: int) -> bool:
    """Whether a child of ours is gone; it was waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_program_is_the_meter_where_no_sensor_answers(tmp_path: Path, fake_board) -> None:
    line, _ = LINES["AGX Orin, L4T 36"]
    command = program(
        tmp_path, f'[ "$1 $2" = "--interval 100" ] || exit 1\necho RAM 1/2MB\n'
        f"while :; do echo '{line}'; sleep 0.05; done",
    )  # fmt: skip
    found = find_tegrastats(fake_board("jetson-nano-2gb").sysfs, command=command, interval_s=0.02)
    assert isinstance(found, PowerMeter), found
    child = found.read.__self__  # type: ignore[attr-defined]
    try:
        for _ in range(2):  # a second measurement needs no second program
            found.start()
            time.sleep(0.3)
            reading = found.stop()
            assert reading.mean_w == pytest.approx(2.401 + 0.8 + 3.325 + 0.604)
            assert reading.samples >= 3
        assert any("sum of rails" in note for note in reading.notes)
    finally:
        child.end()
    assert ended(child._process.pid)


def test_program_that_stops_talking_leaves_nothing(tmp_path: Path) -> None:
    now = [0]
    command = program(tmp_path, "echo 'VDD_IN 5000mW/5000mW'; sleep 60")
    found = find_tegrastats(tmp_path, command=command, interval_s=None, clock_ns=lambda: now[0])
    assert isinstance(found, PowerMeter), found
    found.start()
    now[0] = 2_000_000_000
    reading = found.stop()
    found.read.__self__.end()  # type: ignore[attr-defined]
    assert reading.rails_mj == {} and reading.total_mj is None


@pytest.mark.parametrize("body", ["echo RAM 1/2MB; exit 0", "exit 3"])
def test_program_without_rails_is_no_meter(tmp_path: Path, body: str) -> None:
    reason = find_tegrastats(tmp_path, command=program(tmp_path, body))
    assert isinstance(reason, str) and "printed no power rail" in reason


def test_nothing_is_started_where_the_sensors_answer(tmp_path: Path, fake_board) -> None:
    command = program(tmp_path, f"touch {tmp_path}/started")
    reason = find_tegrastats(fake_board("orin-nx").sysfs, command=command)
    assert reason == "tegrastats: not needed, the sensors can be read directly"
    assert not (tmp_path / "started").exists()


def test_missing_program_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "comes with JetPack" in str(find_tegrastats(tmp_path))
    assert "cannot be started" in str(find_tegrastats(tmp_path, command=str(tmp_path / "none")))
