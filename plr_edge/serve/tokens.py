"""The two tokens of a robot, in files of its state: made whole or not at all, read, replaced.

Whoever has the viewer's token may look; whoever has the teacher's token may also change what was
learned. Knows no request.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from plr_edge.errors import ConfigError, may_pass
from plr_edge.files import sync_folder, write_new

_log = logging.getLogger(__name__)
TEACHER, VIEWER = "teacher", "viewer"
FILES = {TEACHER: "token", VIEWER: "viewer-token"}
_N_BYTES, _MIN_CHARACTERS, _MAX_CHARACTERS = 24, 16, 200
_LOOK_AGAIN_S, _MAX_FILE_BYTES = 1.0, 1 << 16


@dataclass(frozen=True)
class Tokens:
    """The tokens that are accepted.

    Attributes:
        teacher: whoever has it may look and change.
        viewer: whoever has it may look.
    """

    teacher: str
    viewer: str


class TokenFiles:
    """The tokens of a state. A file that is replaced is read again within a second."""

    def __init__(self, state: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Read the tokens, and make those that are missing.

        Args:
            state: directory of the state.
            clock_s: tells the time.

        Raises:
            ConfigError: a file cannot be read or made, or is not what only its owner can read.
        """
        self._state, self._clock_s = state, clock_s
        self._seen, self._trouble = self._places(), ""
        self._tokens = Tokens(*(open_token(state, role) for role in (TEACHER, VIEWER)))
        self._looked_s = clock_s()

    def __call__(self) -> Tokens:
        """Return the tokens of now."""
        if self._clock_s() - self._looked_s >= _LOOK_AGAIN_S:
            self._looked_s = self._clock_s()
            if (places := self._places()) != self._seen:
                self._seen = places
                self._read_again()
        return self._tokens

    def _read_again(self) -> None:
        try:
            fresh = Tokens(*(read_token(self._state, role) for role in (TEACHER, VIEWER)))
        except ConfigError as error:
            _log.error("the tokens stay as they were: %s", error)
            return
        if fresh != self._tokens:
            self._tokens = fresh
            _log.info("a token was replaced; the old one is refused from now on")

    def _places(self) -> list[tuple[int, int, int] | None]:
        found: list[tuple[int, int, int] | None] = []
        for name in FILES.values():
            status = None
            with suppress(OSError):
                status = (self._state / name).lstat()
            found.append(status and (status.st_ino, status.st_mtime_ns, status.st_mode))
        return found


def open_token(state: Path, role: str = TEACHER) -> str:
    """Return a token of a state, and make it if there is none.

    Args:
        state: directory of the state.
        role: `teacher` or `viewer`.

    Raises:
        ConfigError: it cannot be read or made, or is not what only its owner can read.
    """
    if not os.path.lexists(state / FILES[role]):
        _place(state, role, replace=False)
    return read_token(state, role)


def rotate_token(state: Path, role: str) -> str:
    """Replace a token of a state by a new one. A running robot reads it within a second.

    Args:
        state: directory of the state.
        role: `teacher` or `viewer`.

    Raises:
        ConfigError: it cannot be written.
    """
    _place(state, role, replace=True)
    return read_token(state, role)


def read_token(state: Path, role: str = TEACHER) -> str:
    """Return a token of a state.

    Args:
        state: directory of the state.
        role: `teacher` or `viewer`.

    Raises:
        ConfigError: there is none, or it is not what only its owner can read.
    """
    return read_secret(
        state / FILES[role], f"`plr-edge token {state} --rotate {role}` makes a new one"
    )


def read_secret(file: Path, advice: str) -> str:
    """Return a secret from a file that only its owner can read.

    Args:
        file: its path.
        advice: what to do if it is not, for messages.

    Raises:
        ConfigError: it is missing, empty, short, damaged, a link, or can be read by others.
    """
    text = read_private(file, advice).decode(errors="replace").strip()
    if not text:
        raise ConfigError(f"{file} is empty; {advice}")
    if not (text.isascii() and text.isprintable() and " " not in text):
        raise ConfigError(f"{file} is damaged: it is not one word of plain characters; {advice}")
    if not _MIN_CHARACTERS <= len(text) <= _MAX_CHARACTERS:
        raise ConfigError(
            f"{file} has {len(text)} characters, and a secret has {_MIN_CHARACTERS} to "
            f"{_MAX_CHARACTERS}; {advice}"
        )
    return text


def read_private(file: Path, advice: str) -> bytes:
    """Return a small file that only its owner can read.

    Args:
        file: its path.
        advice: what to do if it is not, for messages.

    Raises:
        ConfigError: it cannot be read, is a link or another kind of file, or others can read it.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if os.path.islink(file):
            raise ConfigError(f"{file} is a link; {advice}") from None
        raise ConfigError(f"cannot read {file}: {error.strerror}; {advice}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{file} is not a plain file; {advice}")
        if status.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
            raise ConfigError(f"{file} belongs to another user, who may know it; {advice}")
        if status.st_mode & 0o077:
            raise ConfigError(
                f"{file} can be read by others (mode {stat.S_IMODE(status.st_mode):04o}), who may "
                f"know it; {advice}"
            )
        return os.read(descriptor, _MAX_FILE_BYTES)
    finally:
        os.close(descriptor)


def write_private(file: Path, data: bytes, *, replace: bool) -> None:
    """Write a file that only its owner can read: whole and durable, or not at all.

    Args:
        file: its path.
        data: its content.
        replace: whether it takes the place of a file of this name, which stays otherwise.

    Raises:
        OSError: it cannot be written.
    """
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        write_new(partial, data)
        if os.geteuid() == 0:  # it belongs to whoever the folder belongs to
            owner = file.parent.stat()
            os.chown(partial, owner.st_uid, owner.st_gid)
        if replace:
            os.replace(partial, file)
        else:
            with suppress(FileExistsError):
                os.link(partial, file)
        sync_folder(file.parent)
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _place(state: Path, role: str, *, replace: bool) -> None:
    file = state / FILES[role]
    try:
        write_private(file, secrets.token_urlsafe(_N_BYTES).encode(), replace=replace)
    except OSError as error:
        raise ConfigError(
            f"cannot make {file}: {error.strerror}; nothing was changed. Check the disk and who "
            "owns the folder",
            can_pass=may_pass(error),
        ) from None
