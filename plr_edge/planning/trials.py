"""How accurate configurations are on a stream of the user."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import StreamError
from plr_edge.runtime.adapt import adapt
from plr_edge.runtime.session import Session
from plr_edge.stream import Stream, open_stream
from plr_edge.stream.base import Entry, in_chunks

_HELD_OUT_EVERY = 4
_BATCH = 16
_TRAIN_RATIO = 1.48  # as in the benchmarks: `run` trains as much while the budget lasts


@dataclass(frozen=True)
class Trial:
    """A stream divided into frames to learn and held-out frames to test on."""

    taught: Stream
    held_out: Stream

    @classmethod
    def open(cls, spec: str, limit_per_class: int | None = None) -> Trial:
        """Open both parts of a stream.

        `demo` and folders with `train/` beside `test/` or `val/` have parts of their own. Of any
        other stream every fourth frame is held out.

        Raises:
            StreamError: there is no such stream.
        """
        from plr_edge.stream.folder import held_out_split

        split = "test" if spec == "demo" else held_out_split(Path(spec))
        if split is not None:
            taught, held_out = (
                open_stream(spec, split=part, limit_per_class=limit_per_class)
                for part in ("train", split)
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
            if adapt(session, self.taught).interrupted:
                raise KeyboardInterrupt
            n_correct, n, known = 0, 0, set(session.learned.classes)
            held_out = (frame for frame in self.held_out if frame.label in known)
            for frames in in_chunks(held_out, _BATCH):
                answers = session.perception.predict_many(frames)
                n_correct += sum(a.label == f.label for a, f in zip(answers, frames, strict=True))
                n += len(frames)
        if not n:
            raise StreamError("no labelled frame is left to test on; give a longer --stream")
        return n_correct / n
