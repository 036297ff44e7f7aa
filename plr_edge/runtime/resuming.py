"""Resuming: which frames of a stream the label log holds already, by their content and label.

A frame is what its image shows (see `plr_edge.stream.content`), its label, and which of several
equal ones it is, as a static film repeats frames. Positions and names do not count, so a stream may
change between two runs. Labels that were undone or forgotten are not held.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from plr_edge.errors import LabelError, StreamError
from plr_edge.store import LEARNED, QUARANTINED, Store
from plr_edge.stream.base import Entry, Stream, check_label_at, one_line
from plr_edge.stream.content import identified


class Stopped(Exception):
    """The user asked to stop."""


@dataclass(frozen=True)
class Relabel:
    """A frame that was taught with another label.

    Attributes:
        source: where the frame is now.
        new: its label now.
        old: its label in the log.
        seq: number of that label.
    """

    source: str
    new: str
    old: str
    seq: int


class HeldFrames:
    """The frames of a label log.

    Attributes:
        n_known: number of frames passed over so far, because they are held with the same label.
        n_unidentified: number of labels whose frames earlier versions did not identify.
    """

    def __init__(self, store: Store | None, stop: Callable[[], bool] = lambda: False) -> None:
        """Read a label log.

        Args:
            store: holds the labels. None for no labels.
            stop: whether the user asked to stop.
        """
        self.n_known = self.n_unidentified = 0
        self._identifies, self._read_whole, self._stop = store is not None, False, stop
        self._seqs: dict[bytes, dict[str, list[int]]] = {}  # by content, then by label
        self._contents: dict[int, bytes] = {}  # by position in the stream
        for label in store.labels.with_contents() if store else ():
            if label.status not in (LEARNED, QUARANTINED):
                continue
            if label.content:
                own = self._seqs.setdefault(label.content, {})
                own.setdefault(_composed(label.name), []).append(label.seq)
            else:
                self.n_unidentified += 1

    def choose(self, index: int, entry: Entry) -> Entry | None:
        """Return an entry to learn or to answer, with its content, or None if it is held.

        Raises:
            Stopped: the user asked to stop.
            LabelError: the frame is held with another label, and `relabels` was not asked before.
            StreamError: the image cannot be read.
        """
        if self._stop():
            raise Stopped
        if entry.label is None or not self._identifies:
            return entry
        entry = identified(replace(entry, content=self._contents.get(index, b"")))
        held = self._seqs.get(entry.content, {})
        if seqs := held.get(_composed(str(entry.label))):
            seqs.pop()
            self.n_known += 1
            return None
        others = [name for name, seqs in held.items() if seqs]
        if others and not self._read_whole:
            raise LabelError(
                f"{one_line(entry.origin or entry.source)}: this frame was taught as "
                f"{others[0]!r} and is labelled {entry.label!r} now; write the list to a .txt file "
                "and give that with --relabel, or take the old label back with `plr-edge undo`"
            )
        return entry

    def relabels(self, stream: Stream) -> list[Relabel]:
        """Read a whole stream, and return the frames that are held with another label only.

        A frame that occurs with both labels in the stream is not returned. The old labels of those
        that are returned count as held no more.

        Raises:
            Stopped: the user asked to stop.
            LabelError: a label cannot be used.
            StreamError: the stream is strict, and an image cannot be read.
        """
        if not self._seqs:
            return []
        entries = list(self._labelled(stream))
        self._read_whole = True
        wanted = Counter((entry.content, _composed(str(entry.label))) for entry in entries)
        found, seen = list[Relabel](), Counter[tuple[bytes, str]]()
        for entry in entries:
            held, name = self._seqs.get(entry.content, {}), _composed(str(entry.label))
            seen[entry.content, name] += 1
            if seen[entry.content, name] <= len(held.get(name, ())):
                continue
            for old, seqs in held.items():
                if len(seqs) > wanted[entry.content, old]:
                    found.append(Relabel(entry.source, name, old, seqs.pop()))
                    break
        return found

    def _labelled(self, stream: Stream) -> Iterator[Entry]:
        """Yield the entries with a label whose images can be read, without their images."""
        checked = set[str]()
        for index, entry in enumerate(stream.entries):
            if self._stop():
                raise Stopped
            if entry.label is None:
                continue
            if entry.label not in checked:
                check_label_at(entry.label, entry.origin or entry.source)
                checked.add(entry.label)
            try:
                content = identified(entry).content
            except StreamError:
                if stream.strict:
                    raise
                continue  # the second reading counts it
            self._contents[index] = content
            yield replace(entry, content=content)


def _composed(name: str) -> str:
    """Return a name in Unicode's composed form: `é` may be written in two ways."""
    return unicodedata.normalize("NFC", name)
