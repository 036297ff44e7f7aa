"""Candidates of one backbone: what they consist of, bundles of them, and how right they are.

Knows the export and the main job; what a candidate may cost is `planning`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from plr_edge import export
from plr_edge.assets import ACCURACY
from plr_edge.backbones import Backbone, load_backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle.bundle import Bundle
from plr_edge.config import EngineConfig, LearningConfig
from plr_edge.errors import BackboneError, StreamError
from plr_edge.export.adaptive import check_code
from plr_edge.export.split import (
    block_costs,
    default_cut,
    legal_cuts,
    levels_of,
    saved_bytes,
    split,
)
from plr_edge.planning.candidates import Candidate
from plr_edge.replay.schedule import Level
from plr_edge.runtime.adapt import adapt
from plr_edge.runtime.session import Session
from plr_edge.stream import Stream, open_stream
from plr_edge.stream.base import Entry, in_chunks

SIZES = (96, 128, 160, 224)
_NEAREST, _FARTHEST = 0.4, 2.5  # a network sees little at a fraction of the size it was made for
_HELD_OUT_EVERY = 4
_BATCH = 16
_TRAIN_RATIO = 1.48  # `plr` of docs/results.md: `run` trains as much, while the budget lasts


class Family:
    """What one bundle stands for: other cuts, sizes and precisions of its backbone."""

    def __init__(
        self, bundle: Bundle, weights: Path | None = None, *, allow_code: bool = False
    ) -> None:
        """Load the backbone.

        Args:
            bundle: one of the candidates.
            weights: of the backbone, where they are not embedded.
            allow_code: import the code that an unsigned bundle names.

        Raises:
            BundleError: nobody vouches for the code that it names.
            BackboneError: the weights do not fit.
        """
        check_code(bundle, allow_code)
        self.bundle, self.weights = bundle, weights
        self.static_feature = bool(bundle.manifest.get("static_feature", False))
        self.name = str(bundle.manifest["backbone"])
        self._sized: dict[int, _Sized] = {}

    @property
    def own(self) -> Candidate:
        """The bundle itself."""
        manifest = self.bundle.manifest
        precision = str(manifest.get("precision", "fp32"))
        return self.candidate(self.bundle.preprocessing.size, manifest["cut"], precision)

    def candidate(self, input_size: int, cut: str, precision: str) -> Candidate:
        """Return the facts of a candidate.

        Raises:
            CutError: the cut is not legal.
            BackboneError: the backbone does not take that size.
        """
        sized = self._of(input_size)
        levels = sized.levels(cut)
        frozen = sized.macs - sum(level.macs for level in levels[:-1])
        return Candidate(
            input_size=input_size,
            cut=cut,
            precision=precision,
            levels=levels,
            frozen_macs=sized.macs if self.static_feature else frozen,
            saved_bytes=sized.saved_bytes(cut),
        )

    def candidates(self, precisions: Sequence[str]) -> list[Candidate]:
        """Return what there is to choose from: the sizes near the bundle's own, and of cuts with
        equal latents the first, which trains most."""
        own = self.own
        sizes = sorted({own.input_size, *self._other_sizes(own.input_size)})
        found = []
        for size in sizes:
            cuts = self._of(size).first_of_each_latent
            for cut in [c for c in self.cut_names if c in {*cuts, own.cut}]:
                found += [self.candidate(size, cut, precision) for precision in precisions]
        return found

    @property
    def cut_names(self) -> tuple[str, ...]:
        """Legal cuts, earliest first."""
        return self._of(self.bundle.preprocessing.size).cuts

    @property
    def default_cut(self) -> str:
        """The cut of `plr-edge export` where none is named."""
        return default_cut(self._of(self.bundle.preprocessing.size).backbone)

    def export(self, candidate: Candidate, folder: Path) -> Bundle:
        """Export a candidate, or return the bundle itself where it is that.

        Raises:
            BundleError: the exported parts differ from PyTorch.
        """
        if candidate.key == self.own.key:
            return self.bundle
        path = folder / "-".join(map(str, candidate.key))
        backbone = load_backbone(self.name, weights=self.weights, input_size=candidate.input_size)
        made, _ = export.export_bundle(
            backbone, candidate.cut, path, precision=candidate.precision,
            static_feature=self.static_feature,
        )  # fmt: skip
        return replace(made, trusted=self.bundle.trusted)  # made here, of what was trusted

    def _other_sizes(self, own: int) -> Iterator[int]:
        for size in SIZES:
            if _NEAREST <= size / own <= _FARTHEST:
                try:
                    self._of(size)
                except BackboneError:
                    continue
                yield size

    def _of(self, input_size: int) -> _Sized:
        if input_size not in self._sized:
            backbone = load_backbone(self.name, weights=self.weights, input_size=input_size)
            if backbone.preprocessing.size != input_size:
                raise BackboneError(f"{self.name} has a size of its own, not {input_size}")
            self._sized[input_size] = _Sized(backbone)
        return self._sized[input_size]


class _Sized:
    """A backbone at one input size; what takes a pass of it is computed once."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
        macs, shapes = block_costs(self.backbone)
        self.macs = sum(macs.values())
        self.cuts = legal_cuts(self.backbone)
        self._levels = levels_of(self.backbone, self.cuts[0])  # of every cut, the earliest first
        self._saved: dict[str, int] = {}
        first: dict[tuple[int, ...], str] = {}
        for cut in self.cuts:
            first.setdefault(shapes[cut], cut)
        self.first_of_each_latent = set(first.values())

    def levels(self, cut: str) -> tuple[Level, ...]:
        split(self.backbone, cut)  # refuses one that is not legal
        return self._levels[self.cuts.index(cut) :]

    def saved_bytes(self, cut: str) -> int:
        if cut not in self._saved:
            _, adaptive = split(self.backbone, cut)
            n_bytes = saved_bytes(adaptive, self.levels(cut)[0].shape) if len(adaptive) else 0
            self._saved[cut] = n_bytes
        return self._saved[cut]


@dataclass(frozen=True)
class AccuracyTable:
    """What candidates reached on streams that somebody else measured, as shares of held-out frames.

    Attributes:
        rows: input size and cut to accuracy by stream.
        order: names of the cuts, earliest first.
    """

    rows: Mapping[tuple[int, str], Mapping[str, float]]
    order: Sequence[str]

    @property
    def streams(self) -> tuple[str, ...]:
        """Names of the streams."""
        return tuple(next(iter(self.rows.values())))

    def mean(self, candidate: Candidate) -> float:
        """Return the mean over the streams for the nearest candidate that was measured."""
        at = self.order.index(candidate.cut)

        def distance(key: tuple[int, str]) -> tuple[float, int]:
            size, cut = key
            return abs(size / candidate.input_size - 1), abs(self.order.index(cut) - at)

        values = self.rows[min(self.rows, key=distance)].values()
        return sum(values) / len(values)


def read_accuracies(family: Family) -> AccuracyTable | None:
    """Return what is known of a backbone; None where nothing is, or its weights are others."""
    facts = json.loads(ACCURACY.read_text(encoding="utf-8")).get(family.name)
    if facts is None or family.weights is not None:
        return None
    rows = {(row["input_size"], row["cut"]): row["accuracy"] for row in facts["rows"]}
    return AccuracyTable(rows, family.cut_names)


@dataclass(frozen=True)
class Trial:
    """A stream divided into frames that are taught and frames that are held out."""

    taught: Stream
    held_out: Stream

    @classmethod
    def open(cls, spec: str, limit_per_class: int | None = None) -> Trial:
        """Open both parts: of an image pack its own, of anything else every fourth frame is kept.

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
        """Adapt a bundle in memory, and return the share of held-out frames that it gets right.

        Raises:
            StreamError: a part holds no labelled frame.
        """
        config = replace(config, train_ratio=_TRAIN_RATIO)
        with Session(bundle, None, config, engines) as session:
            if adapt(session, self.taught).interrupted:
                raise KeyboardInterrupt
            right, n, known = 0, 0, set(session.learned.classes)
            known_ones = (frame for frame in self.held_out if frame.label in known)
            for frames in in_chunks(known_ones, _BATCH):
                answers = session.perception.predict_many(frames)
                right += sum(a.label == f.label for a, f in zip(answers, frames, strict=True))
                n += len(frames)
        if not n:
            raise StreamError("no labelled frame is left to test on; give a longer --stream")
        return right / n
