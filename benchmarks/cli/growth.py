"""`python -m benchmarks growth`: what a step costs as classes and latents become many."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("growth")
@click.option("--bundle", type=click.Path(path_type=Path),
              help="[default: MobileNetV2 at 128 pixels, exported on the way]")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results go.")  # fmt: skip
def command(bundle: Path | None, output: Path) -> None:
    """Measure steps at 10 to 1,000 classes and 1,000 to 1,000,000 latents (takes 4 GB)."""
    import json

    from benchmarks.compare import make_bundles
    from benchmarks.growth import grow
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import LearningConfig
    from plr_edge.files import replace_file

    opened = open_bundle(bundle) if bundle else make_bundles(output, click.echo)[1]
    facts = grow(opened, LearningConfig(), click.echo)
    replace_file(output / "growth.json", json.dumps(facts, indent=1).encode())
    for name, value in facts["ratios"].items():
        click.echo(f"a step at most {name} takes {value:.2f} times one at fewest")
    for name, value in facts["exponents"].items():
        click.echo(f"{name}: exponent {value:.2f}")
