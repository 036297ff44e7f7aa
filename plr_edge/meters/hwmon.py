"""Power of Jetson boards from their INA3221 and INA238 sensors, read from sysfs.

Rails are found by label, because their order differs between releases. Reading needs no privileges
and no daemon. The chips do not count energy, so power is integrated over time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from plr_edge.boards import boards
from plr_edge.files import read_int, read_text
from plr_edge.meters.base import Clock, PowerMeter
from plr_edge.meters.sampling import SAMPLE_EVERY_S, IntegratingMeter

ReadMw = Callable[[], "float | None"]

DRIVERS = ("ina3221", "ina3221x", "ina238")  # ina3221x: older NVIDIA kernels
SUM_OF_SHUNTS = 7  # in7 of the INA3221 is not a rail
SHARED_RAIL = "VDD_CPU_GPU_CV"


def _chips(sysfs: Path) -> list[tuple[str, Path]]:
    """Return driver and hwmon folder of every chip, once each, although sysfs lists it twice."""
    found: dict[Path, str] = {}
    for driver in DRIVERS:
        for path in sorted((sysfs / "bus/i2c/drivers" / driver).glob("*/hwmon/hwmon*")):
            found.setdefault(path.resolve(), driver)
    for path in sorted((sysfs / "class" / "hwmon").glob("*")):
        name = read_text(path / "name") or ""
        if name in DRIVERS:
            found.setdefault(path.resolve(), name)
    return [(driver, path) for path, driver in found.items()]


def _usable(label: str | None) -> bool:
    return bool(label) and label != "NC" and not str(label).startswith("sum of")


def _ina3221_rails(chip: Path) -> Iterator[tuple[str, ReadMw]]:
    """Yield label and reader of each connected channel; power is voltage times current."""
    for path in sorted(chip.glob("in*_label")):
        match = re.fullmatch(r"in(\d+)_label", path.name)
        label = read_text(path)
        if match is None or int(match[1]) == SUM_OF_SHUNTS or not label or not _usable(label):
            continue
        yield label, _volts_times_amperes(chip, match[1])


def _volts_times_amperes(chip: Path, index: str) -> ReadMw:
    def read() -> float | None:
        millivolts = read_int(chip / f"in{index}_input")
        milliamperes = read_int(chip / f"curr{index}_input")
        if millivolts is None or milliamperes is None:
            return None
        return millivolts * milliamperes / 1000

    return read


def _scaled(path: Path, per_mw: int) -> ReadMw:
    def read() -> float | None:
        value = read_int(path)
        return None if value is None else value / per_mw

    return read


def _ina238_rails(chip: Path) -> Iterator[tuple[str, ReadMw]]:
    """Yield the only rail of the chip; its driver reports microwatts and often no label."""
    labels = [read_text(chip / name) for name in ("power1_label", "in1_label", "label")]
    label = next((text for text in labels if text), "VIN")
    if _usable(label):
        yield label, _scaled(chip / "power1_input", 1000)


def _iio_rails(sysfs: Path) -> Iterator[tuple[str, ReadMw]]:
    """Yield the rails of JetPack 4, whose driver reports milliwatts."""
    for device in sorted((sysfs / "bus/i2c/drivers/ina3221x").glob("*/iio*device*")):
        for path in sorted(device.glob("rail_name_*")):
            label = read_text(path)
            if label and _usable(label):
                number = path.name.removeprefix("rail_name_")
                yield label, _scaled(device / f"in_power{number}_input", 1)


def _rails(sysfs: Path) -> dict[str, ReadMw]:
    """Return a reader for every labelled rail, readable or not."""
    found: list[tuple[str, ReadMw]] = []
    for driver, chip in _chips(sysfs):
        found += _ina238_rails(chip) if driver == "ina238" else _ina3221_rails(chip)
    found += _iio_rails(sysfs)
    rails: dict[str, ReadMw] = {}
    for label, reader in found:
        n_same = sum(rail.partition("#")[0] == label for rail in rails)
        rails[f"{label}#{n_same + 1}" if n_same else label] = reader
    return rails


def total_of(rails: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return the rails that add up to the total of a known board.

    A single rail that feeds all others is enough. A sum counts only if no rail is missing.

    Args:
        rails: every rail of the board, readable or not.

    Returns:
        total_rails: empty if the rails do not match a known board.
        note: what a reader of the watts should know.
    """
    for board in boards():
        parts = board.total_rails
        if parts and (parts[0] in rails if len(parts) == 1 else set(parts) == set(rails)):
            return parts, board.power_note
    return (), "no total: these rails do not match a known board"


def find_ina3221(
    sysfs: Path = Path("/sys"),
    *,
    interval_s: float | None = SAMPLE_EVERY_S,
    clock_ns: Clock = time.monotonic_ns,
) -> PowerMeter | str:
    """Return one meter for all chips of the board, or one line that says why there is none.

    Args:
        sysfs: where /sys is.
        interval_s: time between samples; None starts no thread.
        clock_ns: monotonic clock in nanoseconds; tests replace it.
    """
    rails = _rails(sysfs)
    if not rails:
        return "ina3221: no INA3221 or INA238 in /sys; most Jetsons have one, but not the Nano 2 GB"
    readable = {rail: reader for rail, reader in rails.items() if reader() is not None}
    if not readable:
        return f"ina3221: found {', '.join(rails)}, but none of them can be read"

    def read() -> dict[str, float]:
        values = {rail: reader() for rail, reader in readable.items()}
        return {rail: value for rail, value in values.items() if value is not None}

    # from all rails: if a part of the sum is unreadable, there is no total
    total_rails, note = total_of(tuple(rails))
    notes = [note, *(f"{rail} is not readable" for rail in rails if rail not in readable)]
    if SHARED_RAIL in readable:
        notes.append(f"{SHARED_RAIL} is shared by CPU, GPU and accelerators")
    return IntegratingMeter(
        "ina3221",
        tuple(readable),
        total_rails,
        read,
        interval_s=interval_s,
        clock_ns=clock_ns,
        notes=notes,
    )
