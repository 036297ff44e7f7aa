"""Options that would not be used, or that are empty, are refused instead of being left out."""

import pytest
from click.testing import CliRunner
from tiny_network import SIZE

from plr_edge.backbones.base import Backbone, SpatialMean
from plr_edge.bundle.preprocessing import Preprocessing
from plr_edge.cli import cli
from plr_edge.engines import plan_cache
from plr_edge.errors import StreamError
from plr_edge.export.bundle_export import export_bundle
from plr_edge.profiling.profile import profile_bundles


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    from tiny_network import network

    blocks = network().append(SpatialMean())
    preprocessing = Preprocessing(size=SIZE, mean=(127.5,) * 3, std=(127.5,) * 3)
    backbone = Backbone(name="tiny", blocks=blocks, preprocessing=preprocessing)
    return export_bundle(backbone, "2", tmp_path_factory.mktemp("given") / "bundle")[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["profile", "{bundle}", "--stream", ""], "--stream is empty"),
        (["plan", "{bundle}", "--allow-code", "--limit-per-class", "3"], "is for --stream"),
        (["schedule", "--widths", "9,9,9", "--costs", "costs.json"], "give the bundle"),
        (["build-engine", "{bundle}", "--workspace", ""], "--workspace is empty"),
        (["doctor", "nowhere"], "nowhere"),
    ],
)
def test_a_value_is_used_or_refused(arguments, says, bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [argument.format(bundle=bundle.path) for argument in arguments]
    result = CliRunner().invoke(cli, given)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert says in result.output


def test_a_profile_of_no_frames_is_not_one_of_the_embedded_frames(bundle):
    with pytest.raises(StreamError, match="no frame to measure on"):
        profile_bundles([bundle], frames=[])


def test_a_workspace_that_does_not_fit_is_said_to_be_cut(caplog):
    assert plan_cache._workspace_bytes(None, 2**30) == 2**30
    assert plan_cache._workspace_bytes(2**20, 2**30) == 2**20
    assert not caplog.text
    assert plan_cache._workspace_bytes(2**32, 2**30) == 2**30
    assert "--workspace of 4096 MiB" in caplog.text
