"""Frame, Stream, and what a class may be called. Knows no file format, no torch, no network."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from plr_edge.errors import LabelError, StreamError

MAX_LABEL_CHARACTERS = 200
_RESERVED = {"unknown", ".", ".."}  # `predict` answers the first; the others are folders
_SHOWN_CHARACTERS = 40
_UNSAFE_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # control, surrogate, line and paragraph separator


@dataclass(frozen=True)
class Frame:
    """One image of a stream.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        label: its class, None where nobody said.
        stamp_ns: when it was taken.
        source: path, or file and position.
        index: position in the stream, skipped frames counted.
    """

    image: np.ndarray
    label: str | None
    stamp_ns: int
    source: str
    index: int = 0


def in_chunks(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    """Give frames `size` at a time; the last chunk may be shorter."""
    chunk: list[Frame] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@dataclass(frozen=True)
class Skipped:
    """A frame that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A frame not yet decoded: `load` returns its image; `origin` is where its label stands."""

    load: Callable[[], np.ndarray]
    label: str | None
    stamp_ns: int
    source: str
    origin: str | None = None


@dataclass(frozen=True)
class Repeatable:
    """Entries made anew by every iteration, so that a stream can be read again."""

    make: Callable[[], Iterator[Entry]]

    def __iter__(self) -> Iterator[Entry]:
        return self.make()


@dataclass
class Stream:
    """Frames in order. A live stream can be iterated once, others again.

    Attributes:
        entries: what to decode, in order.
        n_frames: how many there are, None where only the end will tell.
        strict: stop at the first unreadable image instead of skipping it.
        live: frames arrive one by one and must be answered at once.
        labelled: whether any frame has a label, None where only the end will tell.
        skipped: unreadable images met by the latest iteration.
    """

    entries: Iterable[Entry]
    n_frames: int | None = None
    strict: bool = False
    live: bool = False
    labelled: bool | None = None
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def chunked(self) -> bool:
        """Whether frames may be gathered before they are answered."""
        return not self.live

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def frames_from(self, start: int) -> Iterator[Frame]:
        """Iterate from position `start` on, without decoding what comes before.

        Raises:
            StreamError: `strict` is set and an image cannot be read.
            LabelError: a label cannot be used.
        """
        self.skipped.clear()
        checked: set[str | None] = {None}
        for index, entry in enumerate(self.entries):
            if index < start:
                continue
            if entry.label not in checked:
                _check_entry(entry)
                checked.add(entry.label)
            try:
                image = entry.load()
            except StreamError as error:
                if self.strict:
                    raise
                self.skipped.append(Skipped(entry.source, str(error)))
                continue
            yield Frame(image, entry.label, entry.stamp_ns, entry.source, index)


def take_per_class(entries: Iterable[Entry], limit: int | None) -> Iterator[Entry]:
    """Pass on the first `limit` entries of each label, and all that have none."""
    counts: dict[str, int] = {}
    for entry in entries:
        if limit is not None and entry.label is not None:
            counts[entry.label] = counts.get(entry.label, 0) + 1
            if counts[entry.label] > limit:
                continue
        yield entry


def one_line(value: object, n_characters: int = 300) -> str:
    """Return a text as a message may hold it: no line break, no escape sequence, not too long."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text if len(text) <= n_characters else text[:n_characters] + "..."


def _shown(label: str) -> str:
    text = repr(label[:_SHOWN_CHARACTERS])
    if len(text) > 2 * _SHOWN_CHARACTERS:  # escapes such as \\U0010ffff are long
        text = text[: 2 * _SHOWN_CHARACTERS]
    return text + ("..." if len(label) > _SHOWN_CHARACTERS else "")


def check_label(label: str) -> str:
    """Return `label` if a class may be called so.

    Raises:
        LabelError: it is empty, too long, reserved, or holds a slash or a control character.
    """
    shown = _shown(label)
    if not label.strip():
        raise LabelError("label is empty; give the class a name")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise LabelError(
            f"label {shown} has {len(label)} characters; at most {MAX_LABEL_CHARACTERS} are allowed"
        )
    if any(c in "/\\" or unicodedata.category(c) in _UNSAFE_CATEGORIES for c in label):
        raise LabelError(
            f"label {shown} holds a slash, a newline or a control character; use - or _ instead"
        )
    if label != label.strip():
        raise LabelError(f"label {shown} begins or ends with a space; remove it")
    if label in _RESERVED:
        raise LabelError(f"label {shown} is reserved; choose another name")
    return label


def _check_entry(entry: Entry) -> None:
    try:
        check_label(str(entry.label))
    except LabelError as error:
        raise LabelError(f"{one_line(entry.origin or entry.source)}: {error}") from None
