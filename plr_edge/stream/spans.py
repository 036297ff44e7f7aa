"""Labels of a film: a CSV of spans of time beside it, `film.mp4.csv` for `film.mp4`."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path

from plr_edge.errors import LabelError, StreamError
from plr_edge.stream.messages import one_line
from plr_edge.stream.names import check_label

_COLUMNS = ("start_s", "end_s", "label")


@dataclass
class Span:
    """A span of time with one label.

    Attributes:
        start_s: its first second.
        end_s: the second before which it ends.
        label: its class. None if the row has none.
        line: line of the CSV.
        n_frames: frames found in it.
    """

    start_s: float
    end_s: float
    label: str | None
    line: int
    n_frames: int = field(default=0, compare=False)


class Spans:
    """The labelled spans of a film.

    Attributes:
        path: the CSV, whether it exists or not.
        notes: what may have been meant otherwise.
    """

    def __init__(self, film: Path) -> None:
        """Read the spans of a film. There are none without a CSV.

        Raises:
            StreamError: a row is wrong, or spans overlap. The message names the line.
        """
        self.path = film.with_name(film.name + ".csv")
        self.notes: list[str] = []
        self._spans = self._read() if self.path.is_file() else []
        other = film.with_suffix(".csv")
        if not self._spans and not self.path.is_file() and other.is_file():
            self.notes.append(
                f"{one_line(other)} was not read; the labels of a film are in {self.path.name}"
            )
        last = None
        for span in sorted(self._spans, key=lambda span: span.start_s):
            if last is not None and span.start_s < last.end_s and span.label != last.label:
                raise self._wrong(span.line, f"overlaps the span of line {last.line}")
            if last is None or span.end_s > last.end_s:
                last = span

    def __bool__(self) -> bool:
        return any(span.label is not None for span in self._spans)

    def labels(self) -> list[str]:
        """Return the labels, in the order of their rows."""
        return [span.label for span in self._spans if span.label is not None]

    def restart(self) -> None:
        """Count frames from the beginning."""
        for span in self._spans:
            span.n_frames = 0

    def label_at(self, at_s: float) -> str | None:
        """Return the label of a time."""
        for span in self._spans:
            if span.start_s <= at_s < span.end_s:
                span.n_frames += 1
                return span.label
        return None

    def unused(self, n_s: float) -> list[str]:
        """Name the spans without a frame, once a film of `n_s` seconds was read."""
        lines = [str(span.line) for span in self._spans if not span.n_frames]
        if not lines:
            return []
        return [
            f"{one_line(self.path)}: no frame lies in the spans of {len(lines)} rows, line "
            f"{', '.join(lines[:5])}; the film has {n_s:.1f} s"
        ]

    def _read(self) -> list[Span]:
        try:
            with open(self.path, newline="", encoding="utf-8-sig") as file:
                reader = csv.DictReader(file, skipinitialspace=True, strict=True)
                names = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
                if not set(_COLUMNS) <= set(names):
                    header = ",".join(map(str, reader.fieldnames or ()))
                    raise StreamError(
                        f"{one_line(self.path)} needs the header start_s,end_s,label; it is "
                        f"{one_line(header, 80)!r}"
                    )
                own, spans = [names[column] for column in _COLUMNS], []
                for row in reader:
                    if any(row.get(None) or ()):
                        reason = "has more columns than the header; write quotes around a value "
                        raise self._wrong(reader.line_num, reason + "that contains a comma")
                    spans.append(self._span([row[name] for name in own], reader.line_num))
                return spans
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            quote = "; look for a quote that is not closed" if isinstance(error, csv.Error) else ""
            raise StreamError(
                f"cannot read {one_line(self.path)} ({one_line(error, 80)}){quote}"
            ) from None

    def _span(self, values: list[str | None], line: int) -> Span:
        start, end, label = values
        times = []
        for text in (start, end):
            try:
                times.append(float(text or ""))
            except ValueError:
                reason = f"has the time {one_line(text or '', 40)!r}; write seconds, e.g. 83.5"
                raise self._wrong(line, reason) from None
        if not all(map(math.isfinite, times)) or times[1] <= times[0]:
            raise self._wrong(
                line, f"goes from {times[0]:g} to {times[1]:g} s; swap or correct them"
            )
        try:
            name = check_label(label.strip()) if label and label.strip() else None
        except LabelError as error:
            raise LabelError(f"{one_line(self.path)} line {line}: {error}") from None
        return Span(times[0], times[1], name, line)

    def _wrong(self, line: int, reason: str) -> StreamError:
        return StreamError(f"{one_line(self.path)} line {line} {reason}")
