"""Temperatures of the thermal zones; a sensor that is offline is absent."""

from __future__ import annotations

from pathlib import Path

from plr_edge.meters._files import read_int, read_text

LOWEST_C = -55.0  # below it no sensor works; an offline Jetson zone may say -256


def read_temperatures_c(sysfs: Path = Path("/sys")) -> dict[str, float]:
    """Return degrees Celsius by zone; zones of one type are told apart by their number.

    A zone that is powered down (Orin's CV zones, Thor's GPU) fails to read, and is left out.
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
