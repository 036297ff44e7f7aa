"""Temperatures of the thermal zones."""

from __future__ import annotations

from pathlib import Path

from plr_edge.files import read_int, read_text

LOWEST_C = -55.0  # no sensor works below it; an offline zone of a Jetson may report -256


def read_temperatures_c(sysfs: Path = Path("/sys")) -> dict[str, float]:
    """Return the temperature of each thermal zone, in degrees Celsius.

    A zone that is powered down (CV zones of an Orin, GPU of a Thor) cannot be read and is absent.

    Args:
        sysfs: where /sys is.

    Returns:
        Temperatures by type of the zone; further zones of the same type get their number appended.
    """
    temperatures_c: dict[str, float] = {}
    for zone in sorted((sysfs / "class" / "thermal").glob("thermal_zone*"), key=_number):
        name = read_text(zone / "type")
        temperature_mc = read_int(zone / "temp")
        if not name or temperature_mc is None or temperature_mc / 1000 < LOWEST_C:
            continue
        key = name if name not in temperatures_c else f"{name}-{_number(zone)}"
        temperatures_c[key] = temperature_mc / 1000
    return temperatures_c


def _number(zone: Path) -> int:
    digits = zone.name.removeprefix("thermal_zone")
    return int(digits) if digits.isdigit() else -1
