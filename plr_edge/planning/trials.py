"""How accurate configurations are: measured on a stream of the user, or known from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plr_edge.assets import ACCURACY
from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import StreamError
from plr_edge.planning.configurations import Configuration
from plr_edge.planning.search_space import SearchSpace
from plr_edge.runtime.adapt import adapt
from plr_edge.runtime.session import Session
from plr_edge.stream import Stream, open_stream
from plr_edge.stream.base import Entry, in_chunks

_HELD_OUT_EVERY = 4
_BATCH = 16
_TRAIN_RATIO = 1.48  # as in the benchmarks: `run` trains as much while the budget lasts


@dataclass(frozen=True)
class AccuracyTable:
    """Accuracies of configurations on streams measured elsewhere, as shares of held-out frames.

    Attributes:
        rows: accuracy by stream, by input size and cut.
        order: names of the cuts, earliest first.
    """

    rows: Mapping[tuple[int, str], Mapping[str, float]]
    order: Sequence[str]

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(next(iter(self.rows.values())))

    def mean(self, configuration: Configuration) -> float:
        """Return the mean over the streams for the nearest measured configuration."""
        at = self.order.index(configuration.cut)

        def distance(key: tuple[int, str]) -> tuple[float, int]:
            size, cut = key
            return abs(size / configuration.input_size - 1), abs(self.order.index(cut) - at)

        values = self.rows[min(self.rows, key=distance)].values()
        return sum(values) / len(values)


def read_accuracies(space: SearchSpace) -> AccuracyTable | None:
    """Return the known accuracies of a backbone. None if there are none for its weights."""
    entry = json.loads(ACCURACY.read_text(encoding="utf-8")).get(space.name)
    if entry is None or space.weights is not None:
        return None
    rows = {(row["input_size"], row["cut"]): row["accuracy"] for row in entry["rows"]}
    return AccuracyTable(rows, space.cut_names)


@dataclass(frozen=True)
class Trial:
    """A stream divided into frames to learn and held-out frames to test on."""

    taught: Stream
    held_out: Stream

    @classmethod
    def open(cls, spec: str, limit_per_class: int | None = None) -> Trial:
        """Open both parts of a stream.

        An image pack has parts of its own. Of any other stream every fourth frame is held out.

        Raises:
            StreamError: there is no such stream.
        """
        from plr_edge.stream.packs import is_pack

        if spec == "demo" or (Path(spec).exists() and is_pack(Path(spec))):
            taught, held_out = (
                open_stream(spec, split=split, limit_per_class=limit_per_class)
                for split in ("train", "test")
            )
            return cls(taught, held_out)
        entries = list(open_stream(spec, limit_per_class=limit_per_class).entries)
        last = _HELD_OUT_EVERY - 1
        parts: list[list[Entry]] = [[], []]
        for i, entry in enumerate(entries):
            parts[i % _HELD_OUT_EVERY == last].append(entry)
        return cls(*(Stream(part, len(part)) for part in parts))

    def accuracy(
        self, bundle: Bundle, config: LearningConfig, engines: EngineConfig | None = None
    ) -> float:
        """Learn in memory, and return the share of held-out frames classified correctly.

        Raises:
            StreamError: a part has no labelled frame.
        """
        config = replace(config, train_ratio=_TRAIN_RATIO)
        with Session(bundle, None, config, engines) as session:
            if adapt(session, self.taught)["interrupted"]:
                raise KeyboardInterrupt
            n_correct, n, known = 0, 0, set(session.classes)
            held_out = (frame for frame in self.held_out if frame.label in known)
            for frames in in_chunks(held_out, _BATCH):
                answers = session.perception.predict_many(frames)
                n_correct += sum(a.label == f.label for a, f in zip(answers, frames, strict=True))
                n += len(frames)
        if not n:
            raise StreamError("no labelled frame is left to test on; give a longer --stream")
        return n_correct / n
