from typing import NamedTuple

import pytest

from benchmarks.data.datasets import Pack
from benchmarks.data.encoded import Encoded, encode
from benchmarks.data.encoders import bundle_encoder
from benchmarks.scenarios import Benchmark, Scenario, arrange
from plr_edge.export.bundle_export import export_bundle
from plr_edge.stream import open_stream


class Made(NamedTuple):
    """The embedded films as a data set, encoded by small bundles."""

    dataset: Pack
    bundles: tuple
    encoded: Encoded
    folder: object

    def benchmark(self, seed=0, **scenario) -> Benchmark:
        """Arrange the films."""
        return arrange(Scenario(dataset="films", **scenario), self.encoded, seed, self.bundles)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    from plr_edge.backbones import load_backbone

    folder = tmp_path_factory.mktemp("compare")
    network = load_backbone("mobilenet_v2", input_size=64)
    bundles = tuple(
        export_bundle(network, "block16", folder / name, static_feature=static)[0]
        for name, static in (("bundle", False), ("bundle-static", True))
    )

    class Films(Pack):
        def frames(self, data, part):
            return open_stream("demo", split=part, limit_per_class=12)

    dataset = Films("films", "")
    encoder = bundle_encoder(bundles[1])
    encoded = encode(dataset, encoder, folder, folder / "cache", lambda _: None)
    return Made(dataset, bundles, encoded, folder)
