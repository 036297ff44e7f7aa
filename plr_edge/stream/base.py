"""Frame, Stream, and what a class may be called. No torch, no network."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageOps

from plr_edge.errors import LabelError, StreamError

MAX_LABEL_CHARACTERS = 200
_RESERVED = {"unknown", ".", ".."}  # `predict` answers the first; the others are folders
_SHOWN_CHARACTERS = 40


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


@dataclass(frozen=True)
class Skipped:
    """A frame that could not be read, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A frame not yet decoded: `load` returns its image."""

    load: Callable[[], np.ndarray]
    label: str | None
    stamp_ns: int
    source: str


@dataclass
class Stream:
    """Frames in time order; iterate once.

    Attributes:
        entries: what to decode, in order.
        n_frames: how many there are, None where only the end will tell.
        strict: stop at the first unreadable image instead of skipping it.
        chunked: False where frames arrive one by one and must be answered at once.
        skipped: unreadable images met so far.
    """

    entries: Iterator[Entry]
    n_frames: int | None = None
    strict: bool = False
    chunked: bool = True
    skipped: list[Skipped] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def frames_from(self, start: int) -> Iterator[Frame]:
        """Iterate from position `start` on, without decoding what comes before.

        Raises:
            StreamError: `strict` is set and an image cannot be read.
            LabelError: a label cannot be used.
        """
        for index, entry in enumerate(self.entries):
            if index < start:
                continue
            if entry.label is not None:
                try:
                    check_label(entry.label)
                except LabelError as error:
                    raise LabelError(f"{entry.source}: {error}") from None
            try:
                image = entry.load()
            except StreamError as error:
                if self.strict:
                    raise
                self.skipped.append(Skipped(entry.source, str(error)))
                continue
            yield Frame(image, entry.label, entry.stamp_ns, entry.source, index)


def check_label(label: str) -> str:
    """Return `label` if a class may be called so.

    Raises:
        LabelError: it is empty, too long, reserved, or holds a slash or a control character.
    """
    shown = repr(label[:_SHOWN_CHARACTERS]) + ("..." if len(label) > _SHOWN_CHARACTERS else "")
    if not label.strip():
        raise LabelError("label is empty; give the class a name")
    if len(label) > MAX_LABEL_CHARACTERS:
        raise LabelError(
            f"label {shown} has {len(label)} characters; at most {MAX_LABEL_CHARACTERS} are allowed"
        )
    if label != label.strip():
        raise LabelError(f"label {shown} begins or ends with a space; remove it")
    if any(c in "/\\" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in label):
        raise LabelError(f"label {shown} holds a slash, a newline or a control character; use - or _")
    if label in _RESERVED:
        raise LabelError(f"label {shown} is reserved; choose another name")
    return label


def decode_image(data: bytes, source: str) -> np.ndarray:
    """Decode an image file, upright, as (H, W, 3) uint8 RGB.

    Raises:
        StreamError: it is empty, damaged, too large or no image.
    """
    if not data:
        raise StreamError(f"{source} is empty (0 bytes); record it again or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                upright = image if image.format != "JPEG" else ImageOps.exif_transpose(image)
                return np.asarray(upright.convert("RGB"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StreamError(f"{source} has too many pixels; make it smaller") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise StreamError(f"{source} is no whole image ({reason}); record it again") from None
