"""`python -m benchmarks peers`: other people's packages on the same features."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import again_option, data_option, make_settings, output_option


@click.command("peers")
@data_option
@click.option("--dataset", default="cifar100", show_default=True,
              help="Data set, or a folder of class/image.")  # fmt: skip
@click.option("--frames", default=20, show_default=True, type=click.IntRange(1),
              help="Frames taught of each class.")  # fmt: skip
@click.option("--peer", "peers", multiple=True, help="Package to run; may be repeated.")
@again_option
@output_option
def command(
    data: Path, dataset: str, frames: int, peers: tuple[str, ...], again: bool, output: Path
) -> None:
    """Check our methods against Avalanche, CapyMOA and River.

    Each is installed from the package index into an environment of its own (about 0.4 GB each). One
    that cannot be installed is left out.
    """
    from benchmarks.peers import comparison
    from benchmarks.peers.environments import PEERS
    from benchmarks.results import Rows, write_results
    from benchmarks.runner import make_benchmark
    from benchmarks.scenarios import Scenario
    from plr_edge.errors import ConfigError

    for name in peers:
        if name not in PEERS:
            raise ConfigError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    names = peers or tuple(PEERS)
    settings = make_settings(data, output)
    kept = Rows(output / "peers.jsonl", [dataset, frames, sorted(names)], again=again)
    if not kept.rows:
        scenario = Scenario(dataset=dataset, per_class=frames)
        benchmark = make_benchmark(scenario, 0, settings, click.echo)
        features = comparison.features_of(benchmark)
        stream = (f"{benchmark.name}: {len(features.y)} frames, the last layer of the exported "
                  f"network ({features.x.shape[1]} values)")  # fmt: skip
        for row in comparison.compare(features, names, output / "cache", click.echo):
            kept.add({"stream": stream, **row})
    text = comparison.markdown(kept.rows, kept.rows[0]["stream"])
    write_results(output, "peers", kept.rows, text)
    click.echo(text)
