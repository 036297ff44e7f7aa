"""`python -m benchmarks unpack`: an image pack as a folder that `plr-edge` reads."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("unpack")
@click.argument("pack", type=click.Path(exists=True, path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
def command(pack: Path, folder: Path) -> None:
    """Write the images of PACK (.npz) as FOLDER/train/CLASS/0001.jpg and FOLDER/test/..."""
    from benchmarks.data.packs import unpack

    click.echo(f"{unpack(pack, folder)} images in {folder}")
