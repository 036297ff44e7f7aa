"""The log of a command that runs for long: to a terminal, to journald, or as JSON.

journald adds the time of each line itself, and takes the priority from `<N>` at its start.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import TextIO

FORMATS = ("text", "json")
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7  # the numbers of syslog(3)


def log_to_stderr(kind: str) -> None:
    """Write the log of this process to standard error.

    Args:
        kind: one of `FORMATS`.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(kind, journal=is_journal(sys.stderr)))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def is_journal(stream: TextIO) -> bool:
    """Return whether a stream leads to journald, which names it in JOURNAL_STREAM."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
        return (status.st_dev, status.st_ino) == (int(device), int(inode))
    except (OSError, ValueError):
        return False


class LineFormatter(logging.Formatter):
    """One line for each record as JSON; as text one for each line of the message."""

    def __init__(self, kind: str, *, journal: bool) -> None:
        """Format as one of `FORMATS`.

        Args:
            kind: `text` or `json`.
            journal: begin each line with its priority, and leave the time of texts to journald.
        """
        super().__init__("%(levelname)s %(message)s")
        self._kind, self._journal = kind, journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without the last line break."""
        text = self._as_json(record) if self._kind == "json" else self._as_text(record)
        if not self._journal:
            return text
        priority = next((n for level, n in _PRIORITIES if record.levelno >= level), _DEBUG)
        return "\n".join(f"<{priority}>{line}" for line in text.split("\n"))

    def _as_text(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if self._journal else f"{_utc(record)} {text}"

    def _as_json(self, record: logging.LogRecord) -> str:
        facts = {
            "time": _utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False)


def _utc(record: logging.LogRecord) -> str:
    """Return the time of a record as 2026-01-31T12:00:00.123Z."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"
