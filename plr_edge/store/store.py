"""Store: teach, publish, undo; one writer. Knows rows, files and promises; nothing of torch.

The unit of acknowledgement is the label: when `teach` returns, that label is durable. Weights are
snapshots, written when there is time, and are rebuilt from the labels after a crash.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from plr_edge.errors import StateError
from plr_edge.store.corrections import Corrections
from plr_edge.store.database import FILE, Damage, Database, Row
from plr_edge.store.folder import damage_as_error, locked, make_folder
from plr_edge.store.generations import FOLDER, Arrays, State, read_group, remove_files, write_files
from plr_edge.store.labels import Label
from plr_edge.store.rows import blobs, meta, packed, ranges

SCHEMA = 2
_KEPT_GENERATIONS = 2
_MAX_EVENTS = 5_000
_MAX_LABELS = 100_000
_LOCK_WAIT_S = 0.8
_EVENT_CHARS = 300
_DAY_NS = 86_400 * 10**9


class Store(Corrections):
    """What is learned, in a directory; only one process at a time may hold it."""

    def __init__(
        self, path: str | Path, *, label_bytes: int = 64 << 20, check_latents: bool = True
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
        make_folder(self.path)
        self._lock = locked(self.path)
        try:
            self._database = self._opened()
            self._check(check_latents)
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

    # facts

    def get(self, key: str, default: Any = None) -> Any:
        """Return a fact that was kept with `teach`, `publish` or `keep`."""
        with damage_as_error(self.path):
            rows = list(self._database.rows("meta", "key = ?", (key,)))
        return json.loads(rows[0][1]) if rows else default

    def keep(self, **facts: Any) -> None:
        """Keep facts that fit JSON."""
        with self._transaction() as database:
            database.put("meta", meta(facts))

    @property
    def last_seq(self) -> int:
        """Number of labels ever acknowledged."""
        return int(self.get("last_seq", 0))

    # labels

    def teach(self, labels: Sequence[Label], **facts: Any) -> list[int]:
        """Make labels durable; when this returns they survive any crash.

        Args:
            labels: with their latents.
            facts: to keep in the same step, such as the position in a stream.

        Returns:
            Their places in the order of teaching.

        Raises:
            StateError: the disk refuses; none of them was taken.
        """
        with self._transaction() as database:
            return self._insert(database, labels, facts)

    def labels(self, after: int = 0, status: str | None = None) -> Iterator[Label]:
        """Read labels in the order of teaching, without their latents."""
        where, values = "seq > ?", [after]
        if status:
            where, values = f"{where} AND status = ?", [after, status]  # type: ignore[list-item]
        with damage_as_error(self.path):
            for row in self._database.rows("labels", where, values):
                yield Label.from_row(row)

    def with_latents(self, labels: Sequence[Label]) -> list[Label]:
        """Return the labels whose latents are still held, with them."""
        found = []
        with damage_as_error(self.path):
            for label in labels:
                for _, record, taps in self._database.rows("latents", "seq = ?", (label.seq,)):
                    found.append(
                        replace(
                            label,
                            record=np.frombuffer(record, np.uint8),
                            taps=np.frombuffer(taps, np.float16),
                        )
                    )
        return found

    # generations

    def publish(
        self,
        facts: Mapping[str, Any],
        arrays: Arrays,
        *,
        upto: int | None = None,
        in_use: Sequence[int] = (),
        reason: str = "",
    ) -> int:
        """Write a generation; when this returns, it is what will be read.

        Args:
            facts: that fit JSON.
            arrays: by group, then by name.
            upto: the last label it learned; the last of all by default.
            in_use: labels whose latents it needs.
            reason: why it was made.

        Returns:
            Its number.

        Raises:
            StateError: the disk refuses; what was there before is still there.
        """
        number = int(self._database.value("SELECT max(number) FROM generations") or 0)
        number = max(number, int(self.get("last_generation", 0))) + 1
        upto = self.last_seq if upto is None else upto
        facts = {**facts, "upto": upto, "in_use": [int(seq) for seq in in_use]}
        try:
            entries = write_files(self.path, number, {**arrays, "facts": {"json": packed(facts)}})
        except OSError as error:
            self._tidy()
            raise StateError(
                f"cannot write state in {self.path}: {error.strerror}; what was acknowledged is "
                "safe; free some space and go on"
            ) from None
        row = (
            number, upto, time.time_ns(), json.dumps(facts["in_use"]), json.dumps(entries),
        )  # fmt: skip
        n_bytes = sum(entry["bytes"] for entry in entries.values())
        with self._transaction() as database:
            old = [r[0] for r in database.rows("generations")]
            database.put("generations", [row])
            database.delete("generations", old[: max(0, len(old) + 1 - _KEPT_GENERATIONS)])
            database.put(
                "meta", meta({"last_generation": number, "written": self._written(n_bytes)})
            )
            self._note(database, "published", f"generation {number}, labels to {upto} {reason}")
        self._tidy()
        self._let_go()
        return number

    def read(self, groups: tuple[str, ...] | None = None) -> State | None:
        """Return the newest generation that verifies, None where there is none."""
        for number, upto, _, _, files in reversed(self._generations()):
            try:
                arrays = {
                    group: read_group(self.path, entry)
                    for group, entry in json.loads(files).items()
                    if groups is None or group in (*groups, "facts")
                }
                facts = json.loads(arrays.pop("facts")["json"].tobytes())
            except (Damage, KeyError, ValueError) as error:
                self.notes.append(f"generation {number} is damaged ({error}); it is not used")
                continue
            return State(int(number), int(upto), facts, arrays, tuple(self.notes))
        return None

    def generations(self) -> list[dict[str, Any]]:
        """Return number, last label, time and bytes of what could be gone back to."""
        return [
            {
                "generation": number,
                "labels_to": upto,
                "time_ns": time_ns,
                "bytes": sum(entry["bytes"] for entry in json.loads(files).values()),
            }
            for number, upto, time_ns, _, files in self._generations()
        ]

    def damage(self) -> dict[int, str]:
        """Read every file of every generation; returns what is wrong, by generation."""
        found = {}
        for row in self._generations():
            for entry in json.loads(row[4]).values():
                try:
                    read_group(self.path, entry)
                except Damage as error:
                    found[int(row[0])] = str(error)
        return found

    def discard(self, numbers: Sequence[int], reason: str) -> None:
        """Let go of generations; the labels that they learned are learned again."""
        with self._transaction() as database:
            database.delete("generations", numbers)
            self._note(database, "dropped", f"generation {ranges(numbers)}: {reason}")
        self._tidy()

    # events and sizes

    def note(self, kind: str, text: str) -> None:
        """Keep an event; a disk that refuses it is no reason to stop."""
        with suppress(StateError), self._transaction() as database:
            self._note(database, kind, text)

    def events(self) -> list[tuple[int, str, str]]:
        """Return time, kind and text of what happened, oldest first."""
        with damage_as_error(self.path):
            return [(row[1], row[2], row[3]) for row in self._database.rows("events")]

    @property
    def n_bytes(self) -> int:
        """Bytes of the directory."""
        files = [*self.path.iterdir(), *(self.path / FOLDER).iterdir()]
        return sum(file.stat().st_size for file in files if file.is_file())

    @property
    def written_today(self) -> int:
        """Bytes of latents and generations written in the last 24 hours."""
        day = self.get("written", {})
        old = time.time_ns() - day.get("since_ns", 0) >= _DAY_NS
        return 0 if old else int(day["bytes"])

    # inside

    def _opened(self) -> Database:
        try:
            return Database(self.path)
        except Damage as error:
            raise StateError(
                f"{error}; `plr-edge repair {self.path}` saves what is whole"
            ) from None

    def _check(self, check_latents: bool) -> None:
        """Read every row once: what does not match its checksum is found here, not served."""
        if (self.path / "state.json").exists():
            raise StateError(
                f"{self.path} was written by an older version; learn it again into another --state"
            )
        schema = self.get("schema")
        if schema is None:
            self.keep(schema=SCHEMA, last_seq=0)
        elif schema != SCHEMA:
            raise StateError(f"{self.path} has schema {schema!r}; this version reads {SCHEMA}")
        with damage_as_error(self.path):
            pages = self._database.quick_check()
            if pages != "ok":
                raise Damage(f"{self.path / FILE} is damaged ({pages})")
            n_labels = sum(1 for _ in self._database.rows("labels"))
            expected = self.last_seq - int(self.get("n_deleted", 0))
            if n_labels != expected:
                raise Damage(f"{self.path / FILE} holds {n_labels} labels of {expected}")
            for table in ("generations", "events", *(["latents"] if check_latents else [])):
                deque(self._database.rows(table), maxlen=0)
        self._tidy()

    def _generations(self) -> list[Row]:
        with damage_as_error(self.path):
            return list(self._database.rows("generations"))

    def _insert(
        self, database: Database, labels: Sequence[Label], facts: Mapping[str, Any] | None = None
    ) -> list[int]:
        first = self.last_seq + 1
        seqs = list(range(first, first + len(labels)))
        pairs = list(zip(seqs, labels, strict=True))
        n_bytes = sum(len(blob) for label in labels for blob in blobs(label))
        database.put("labels", (label.to_row(seq) for seq, label in pairs))
        database.put("latents", ((seq, *blobs(label)) for seq, label in pairs))
        counts = {"last_seq": first - 1 + len(seqs), "written": self._written(n_bytes)}
        database.put("meta", meta({**counts, **(facts or {})}))
        return seqs

    def _note(self, database: Database, kind: str, text: str) -> None:
        newest = int(database.value("SELECT max(id) FROM events") or 0) + 1
        database.put("events", [(newest, time.time_ns(), kind, text[:_EVENT_CHARS])])
        if newest > _MAX_EVENTS:
            database.delete("events", [newest - _MAX_EVENTS])

    def _tidy(self) -> None:
        """Delete files that no row names; only after the rows are durable."""
        kept = {
            entry["name"] for row in self._generations() for entry in json.loads(row[4]).values()
        }
        with suppress(OSError):
            remove_files(self.path, kept)

    def _let_go(self) -> None:
        """Delete the oldest latents that nothing needs, and labels beyond any use."""
        generations = self._generations()
        safe = int(generations[0][1])
        in_use = {seq for row in generations for seq in json.loads(row[3])}
        query = "SELECT coalesce(sum(length(record) + length(taps)), 0) FROM latents"
        excess = int(self._database.value(query)) - self.label_bytes
        n_excess = int(self._database.value("SELECT count(*) FROM labels")) - _MAX_LABELS
        if excess <= 0 and n_excess <= 0:
            return
        gone = []
        for seq, record, taps in self._database.rows("latents", "seq <= ?", (safe,)):
            if excess <= 0:
                break
            if seq not in in_use:
                gone.append(seq)
                excess -= len(record) + len(taps)
        old = [] if n_excess <= 0 else [
            row[0] for row in self._database.rows("labels", "seq <= ?", (safe,))
            if row[0] not in in_use
        ][:n_excess]  # fmt: skip
        with self._transaction() as database:
            database.delete("latents", [*gone, *old])
            database.delete("labels", old)
            if old:
                database.put("meta", meta({"n_deleted": self.get("n_deleted", 0) + len(old)}))

    def _written(self, n_bytes: int) -> dict[str, int]:
        """Return the counter of today with some bytes more."""
        day = self.get("written") or {}
        if time.time_ns() - day.get("since_ns", 0) >= _DAY_NS:
            day = {"since_ns": time.time_ns(), "bytes": 0}
        return {**day, "bytes": day["bytes"] + n_bytes}

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        with damage_as_error(self.path), self._database.transaction() as database:
            yield database
