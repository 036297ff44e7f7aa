"""`python -m benchmarks peers`: other people's packages on the same features."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("peers")
@click.option("--data", default="packs", show_default=True, type=click.Path(path_type=Path),
              help="Folder of packs.")  # fmt: skip
@click.option("--dataset", default="cifar100", show_default=True,
              help="A data set of `bench compare`, or a folder of class/image.")  # fmt: skip
@click.option("--frames", default=20, show_default=True, type=click.IntRange(1),
              help="Taught of each class.")  # fmt: skip
@click.option("--peer", "peers", multiple=True, help="Only this one; may be repeated.")
@click.option("--markdown", type=click.Path(path_type=Path),
              help="Put the table into this file, between its marks.")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path),
              help="Where results, caches and the peers' environments go.")  # fmt: skip
def command(
    data: Path, dataset: str, frames: int, peers: tuple[str, ...], markdown: Path | None,
    output: Path,
) -> None:  # fmt: skip
    """Check our methods against Avalanche, CapyMOA and River.

    Each is installed from the package index into an environment of its own (about 0.4 GB each); one
    that cannot be is left out.
    """
    import json

    from benchmarks.compare import make_one
    from benchmarks.compare_report import put_between_marks
    from benchmarks.peers import comparison
    from benchmarks.peers.environments import PEERS
    from benchmarks.scenarios import Scenario
    from plr_edge.errors import ConfigError
    from plr_edge.files import replace_file

    for name in peers:
        if name not in PEERS:
            raise ConfigError(f"no peer {name!r}; there are {', '.join(PEERS)}")
    task = make_one(Scenario(dataset=dataset, per_class=frames), 0, data, output, click.echo)
    features = comparison.features_of(task)
    rows = comparison.compare(features, peers or tuple(PEERS), output / "cache", click.echo)
    replace_file(output / "peers.json", json.dumps({"task": task.name, "rows": rows}).encode())
    what = (f"{task.name}: {len(features.y)} frames, the last layer of the exported network "
            f"({features.x.shape[1]} values)")  # fmt: skip
    table = comparison.markdown(rows, what)
    if markdown:
        put_between_marks(markdown, "peers", table)
    click.echo(table)
