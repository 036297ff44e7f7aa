"""Whose tokens and certificate a state holds: a copy on another machine gets its own.

The file `machine` beside the tokens holds a digest of the machine that made them. A state that was
copied with everything in it, by `cp -a` or with a disk, would let whoever has the tokens of one
robot teach the other.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

from plr_edge.errors import ConfigError, may_pass
from plr_edge.files import sync_folder
from plr_edge.serve.certificate import FILE as CERTIFICATE
from plr_edge.serve.tokens import FILES, write_private

_log = logging.getLogger(__name__)
FILE = "machine"
_MAX_BYTES = 256
# the number of a board stays the same when its system is installed again
_NUMBERS = (Path("/proc/device-tree/serial-number"), Path("/etc/machine-id"))
# a container has a number of its own, or none, and each new one another
_IN_CONTAINER = (Path("/.dockerenv"), Path("/run/.containerenv"))


def machine() -> str:
    """Return a digest that no two machines share. Empty if this one has no number that stays."""
    if any(path.exists() for path in _IN_CONTAINER):
        return ""
    for path in _NUMBERS:
        number = b""
        with suppress(OSError):
            number = path.read_bytes().strip(b"\0\n ")
        if number and number != b"uninitialized":
            return hashlib.sha256(b"plr-edge " + number).hexdigest()
    return ""


def renew_if_copied(state: Path) -> bool:
    """Delete tokens and certificate that another machine made, so that new ones are made.

    A state without the file `machine` is taken to be of this machine.

    Args:
        state: directory of the state.

    Returns:
        Whether there were such.

    Raises:
        ConfigError: they cannot be deleted.
    """
    own = machine()
    if not own:
        return False
    before, foreign = b"", list[str]()
    try:
        with suppress(FileNotFoundError), open(state / FILE, "rb") as file:
            before = file.read(_MAX_BYTES).strip()
        if before == own.encode():
            return False
        if before:
            names = *FILES.values(), CERTIFICATE
            foreign = [name for name in names if os.path.lexists(state / name)]
        for name in foreign:
            (state / name).unlink()
        sync_folder(state)
        write_private(state / FILE, own.encode(), replace=True)  # last: power may fail before
    except OSError as error:
        if not before:  # those are of this machine, and the next start marks them
            return False
        raise ConfigError(
            f"cannot renew the tokens of {state}, which may be those of another machine: "
            f"{error.strerror}; check the disk and who owns the folder",
            can_pass=may_pass(error),
        ) from None
    if foreign:
        _log.warning(
            "%s was copied from another machine; %s of that one were deleted, and this robot makes "
            "its own. `plr-edge token` prints them",
            state,
            ", ".join(foreign),
        )
    return bool(foreign)
