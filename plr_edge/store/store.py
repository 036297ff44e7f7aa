"""Store: teach, publish, undo; one writer. Knows rows, files and promises; nothing of torch.

The unit of acknowledgement is the label: when `teach` returns, that label is durable. Weights are
snapshots, written when there is time, and are rebuilt from the labels after a crash.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from plr_edge.errors import StateError
from plr_edge.files import device_bytes_written
from plr_edge.store.corrections import Corrections
from plr_edge.store.database import FILE, SCHEMA, Database
from plr_edge.store.folder import DamagedError, damage_as_error, locked, make_folder, warn_of_place
from plr_edge.store.generations import any_file
from plr_edge.store.replacing import finish_repair
from plr_edge.store.rows import Damage

LABEL_BYTES = 64 << 20


class Store(Corrections):
    """What is learned, in a directory; only one process at a time may hold it."""

    def __init__(
        self, path: str | Path, *, label_bytes: int = LABEL_BYTES, check_latents: bool = True
    ) -> None:
        """Make the directory if needed, take its lock, and check every label's row.

        Args:
            path: of the directory.
            label_bytes: of latents to keep; the oldest that are not in use go first.
            check_latents: read them too; else each is checked when it is used.

        Raises:
            StateError: it cannot be written, is damaged beyond use, or another process holds it.
        """
        self.path, self.label_bytes = Path(path), label_bytes
        self.notes: list[str] = []
        self._device_bytes = device_bytes_written() or 0
        make_folder(self.path)
        warn_of_place(self.path)
        self._lock = locked(self.path)
        try:
            finish_repair(self.path)
            self._open(check_latents)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Fold the log into the database, and give the lock back."""
        database = getattr(self, "_database", None)
        if database is not None:
            database.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, check_latents: bool) -> None:
        """Read every row once: what does not match its checksum is found here, not served."""
        if (self.path / "state.json").exists():
            raise StateError(
                f"{self.path} was written by an older version; learn it again into another --state"
            )
        if not (self.path / FILE).exists() and any_file(self.path):
            raise DamagedError(
                f"{self.path} has generations but no {FILE}; `plr-edge repair {self.path}` saves "
                "what is whole"
            )
        with damage_as_error(self.path):
            self._database = Database(self.path)
            pages = self._database.quick_check()
            if pages != "ok":
                raise Damage(f"{self.path / FILE} is damaged ({pages})")
        self._check_schema()
        with damage_as_error(self.path):
            n_labels = sum(1 for _ in self._database.rows("labels"))
            expected = self.last_seq - int(self.get("n_deleted", 0))
            if n_labels != expected:
                raise Damage(f"{self.path / FILE} holds {n_labels} labels of {expected}")
            for table in ("generations", "events", *(["latents"] if check_latents else [])):
                deque(self._database.rows(table), maxlen=0)
        self._acknowledged = self._inserted = self.last_seq
        self._tidy()

    def _check_schema(self) -> None:
        schema = self.get("schema")
        if schema is None and self.last_seq == 0:
            self.keep(schema=SCHEMA, last_seq=0)
        elif schema != SCHEMA:
            raise StateError(f"{self.path} has schema {schema!r}; this version reads {SCHEMA}")
