import pytest

from benchmarks.datasets import Pack, load_parts
from plr_edge.export.bundle_export import export_bundle
from plr_edge.stream import open_stream


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The embedded films as a data set, with small bundles: data set, bundles, parts, folder."""
    from plr_edge.backbones import load_backbone

    folder = tmp_path_factory.mktemp("compare")
    network = load_backbone("mobilenet_v2", input_size=64)
    bundles = tuple(
        export_bundle(network, "block16", folder / name, static_feature=static)[0]
        for name, static in (("bundle-static", True), ("bundle", False))
    )

    class Films(Pack):
        def frames(self, data, part):
            return open_stream("demo", split=part, limit_per_class=12)

    dataset = Films("films", "")
    parts = load_parts(dataset, bundles[0], folder, folder / "cache", lambda _: None)
    return dataset, bundles, parts, folder
