"""Whether the batteries of this machine are being charged."""

from __future__ import annotations

from pathlib import Path

from plr_edge.files import read_text

_CHARGED_BY = ("Charging", "Full")


def read_charging(sysfs: Path = Path("/sys")) -> bool | None:
    """Return whether a battery is being charged, or is full and stays so.

    Batteries of peripherals, such as a game pad, do not count.

    Args:
        sysfs: where /sys is.

    Returns:
        None if there is no battery that says so.
    """
    states = [
        state
        for supply in sorted((sysfs / "class" / "power_supply").glob("*"))
        if read_text(supply / "type") == "Battery"
        and read_text(supply / "scope") != "Device"
        and (state := read_text(supply / "status")) not in (None, "", "Unknown")
    ]
    return any(state in _CHARGED_BY for state in states) if states else None
