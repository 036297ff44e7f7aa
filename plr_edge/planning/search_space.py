"""The configurations of one backbone: what each consists of, and bundles of them.

Knows the export. Costs and constraints are the business of `configurations` and `cost_model`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from plr_edge.backbones import BACKBONES, Backbone
from plr_edge.backbones.base import fold_batch_norm
from plr_edge.bundle.bundle import Bundle
from plr_edge.errors import BackboneError, BundleError, ConfigError
from plr_edge.export.bundle_export import export_bundle
from plr_edge.export.libraries import LIBRARIES
from plr_edge.export.source import source_of_bundle
from plr_edge.export.sources import load_network
from plr_edge.export.split import (
    block_costs,
    default_cut,
    latent_axes,
    legal_cuts,
    levels_of,
    offered_cuts,
    saved_bytes,
    split,
)
from plr_edge.planning.configurations import Configuration
from plr_edge.profiling.profile import entries_of
from plr_edge.replay.schedule import Level

SIZES = (96, 128, 160, 224)
_NEAREST, _FARTHEST = 0.4, 2.5  # a network recognises little at a fraction of its input size


class SearchSpace:
    """Other cuts, sizes and precisions of the backbone of a bundle."""

    def __init__(
        self, bundle: Bundle, weights: Path | None = None, *, allow_code: bool = False
    ) -> None:
        """Load the backbone.

        Args:
            bundle: one bundle of the backbone.
            weights: weights of the backbone. Required unless they are embedded.
            allow_code: import the code that an unsigned bundle names.

        Raises:
            BundleError: the bundle is unsigned and names code to import.
            BackboneError: the weights do not fit.
        """
        _check_code(bundle, allow_code)
        self.bundle, self.weights = bundle, weights
        self.static_feature = bool(bundle.manifest.get("static_feature", False))
        self.name = str(bundle.manifest["backbone"])
        self._sized: dict[int, _SizedBackbone] = {}

    @property
    def own(self) -> Configuration:
        """Configuration of the bundle itself."""
        manifest = self.bundle.manifest
        precision = str(manifest.get("precision", "fp32"))
        return self.configuration(self.bundle.preprocessing.size, manifest["cut"], precision)

    def configuration(self, input_size: int, cut: str, precision: str) -> Configuration:
        """Return one configuration.

        Raises:
            CutError: the cut is not legal.
            BackboneError: the backbone does not support the input size.
        """
        sized = self._at(input_size)
        levels = sized.levels(cut)
        frozen = sized.macs - sum(level.macs for level in levels[:-1])
        axes = latent_axes(sized.backbone, cut, levels[0].shape)
        share = _window_share(levels[0].shape) if self.bundle.windows and axes == "CHW" else 1.0
        return Configuration(
            input_size=input_size,
            cut=cut,
            precision=precision,
            levels=levels,
            frozen_macs=sized.macs if self.static_feature else frozen,
            saved_bytes=round(sized.saved_bytes(cut) * share),
            window_share=share,
            latent_axes=axes,
        )

    def configurations(self, precisions: Sequence[str]) -> list[Configuration]:
        """Return all configurations worth comparing.

        Input sizes are near the bundle's own. Of several cuts with equal latents only the first
        is included, which trains most.
        """
        own = self.own
        sizes = sorted({own.input_size, *self._other_sizes(own.input_size)})
        found = []
        for size in sizes:
            cuts = self._at(size).first_of_each_latent
            for cut in [c for c in self.cut_names if c in {*cuts, own.cut}]:
                found += [self.configuration(size, cut, precision) for precision in precisions]
        return found

    @property
    def cut_names(self) -> tuple[str, ...]:
        """Legal cuts, earliest first."""
        return self._at(self.bundle.preprocessing.size).cuts

    @property
    def default_cut(self) -> str:
        """The cut that `plr-edge export` uses if none is given."""
        return self._at(self.bundle.preprocessing.size).default_cut

    def export(self, configuration: Configuration, folder: Path) -> Bundle:
        """Export a configuration. Its own configuration returns the bundle itself.

        Raises:
            BundleError: the exported parts differ from PyTorch.
        """
        if configuration.key == self.own.key:
            return self.bundle
        path = folder / "-".join(map(str, configuration.key))
        size = configuration.input_size
        backbone = load_network(source_of_bundle(self.bundle, self.weights, size))
        made, _ = export_bundle(
            backbone, configuration.cut, path, precision=configuration.precision,
            static_feature=self.static_feature,
        )  # fmt: skip
        return replace(made, trusted=self.bundle.trusted)  # exported here, from trusted code

    def profiled(
        self, profile: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Configuration]]:
        """Return the bundles of a profile that have this backbone.

        Returns:
            entries: their entries in the profile.
            configurations: their configurations, by the digest of the frozen part.

        Raises:
            ConfigError: the profile has none.
        """
        backbone = (self.name, self.static_feature)
        own = [
            e for e in entries_of(dict(profile))
            if (e.get("backbone"), e.get("static_feature", False)) == backbone
        ]  # fmt: skip
        if not own:
            raise ConfigError(
                f"the profile has no bundle of {self.name}; write one with "
                f"`plr-edge profile {self.bundle.path} --json costs.json`"
            )
        precisions = (str(e["precision"]).split()[0] for e in own)
        return own, {
            e["frozen_sha256"]: self.configuration(int(e["input_size"]), e["cut"], precision)
            for e, precision in zip(own, precisions, strict=True)
        }

    def _other_sizes(self, own: int) -> Iterator[int]:
        for size in SIZES:
            if _NEAREST <= size / own <= _FARTHEST:
                try:
                    self._at(size)
                except BackboneError:
                    continue
                yield size

    def _at(self, input_size: int) -> _SizedBackbone:
        if input_size not in self._sized:
            source = source_of_bundle(self.bundle, self.weights, input_size)
            backbone = load_network(source)
            if backbone.preprocessing.size != input_size:
                raise BackboneError(f"{self.name} has a fixed input size, not {input_size}")
            self._sized[input_size] = _SizedBackbone(backbone)
        return self._sized[input_size]


class _SizedBackbone:
    """A backbone at one input size. What takes a forward pass is computed once."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = replace(backbone, blocks=fold_batch_norm(backbone.blocks))
        macs, shapes = block_costs(self.backbone)
        self.macs = sum(macs.values())
        self.cuts = legal_cuts(self.backbone)
        self._levels = levels_of(self.backbone, self.cuts[0])  # of every cut, the earliest first
        self._saved: dict[str, int] = {}
        first: dict[tuple[int, ...], str] = {}
        for cut in offered_cuts(self.backbone):
            first.setdefault(shapes[cut], cut)
        self.first_of_each_latent = set(first.values())
        self.default_cut = default_cut(self.backbone)

    def levels(self, cut: str) -> tuple[Level, ...]:
        split(self.backbone, cut)  # raises for a cut that is not legal
        return self._levels[self.cuts.index(cut) :]

    def saved_bytes(self, cut: str) -> int:
        if cut not in self._saved:
            _, adaptive = split(self.backbone, cut)
            n_bytes = saved_bytes(adaptive, self.levels(cut)[0].shape) if len(adaptive) else 0
            self._saved[cut] = n_bytes
        return self._saved[cut]


def _window_share(shape: tuple[int, ...]) -> float:
    """Return the share of a latent map that the window of half its side covers."""
    return ((shape[1] + 1) // 2 / shape[1]) ** 2


def _check_code(bundle: Bundle, allow_code: bool) -> None:
    """Refuse an untrusted bundle whose network is code that would be imported."""
    name = bundle.manifest["backbone"]
    known = name in BACKBONES or name.endswith(".onnx") or name.partition(":")[0] in LIBRARIES
    if not known and not (allow_code or bundle.trusted):
        raise BundleError(
            f"other cuts of {bundle.path} need its network, which would be imported from code "
            f"({name[:60]}); if you trust it, add --allow-code, or sign it and add --trust"
        )
