"""`python -m benchmarks pace`: frames a second while learning, beside AR1-like latent replay."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("pace")
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of packs.")
@click.option("--per-class", default=20, show_default=True, type=click.IntRange(1),
              help="Frames taught of each class of CIFAR-100.")  # fmt: skip
@click.option("--epochs", default=4, show_default=True, type=click.IntRange(1),
              help="Of the AR1-like side, over each experience.")  # fmt: skip
@click.option("--seed", default=0, show_default=True, help="Orders classes and frames.")
@click.option("--bundle", type=click.Path(path_type=Path),
              help="[default: MobileNetV2 at 128 pixels, exported on the way]")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results go.")  # fmt: skip
def command(
    data: Path, per_class: int, epochs: int, seed: int, bundle: Path | None, output: Path
) -> None:
    """Learn the same images end to end, beside AR1-like latent replay in eager PyTorch."""
    import json

    from benchmarks.compare import make_bundles
    from benchmarks.pace import compare_pace
    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import LearningConfig
    from plr_edge.files import replace_file

    opened = open_bundle(bundle) if bundle else make_bundles(output, click.echo)[1]
    facts = compare_pace(
        opened, data, output, LearningConfig(seed=seed), per_class=per_class, epochs=epochs,
        say=click.echo,
    )  # fmt: skip
    output.mkdir(parents=True, exist_ok=True)
    replace_file(output / "pace.json", json.dumps(facts, indent=1).encode())
    for row in facts["rows"]:
        click.echo(
            f"{row['name']:<40} {row['frames_per_s']:6.1f} frames/s  {row['accuracy']:.1%} right  "
            f"{row['ms_per_frame']:.1f} ms a frame, {row['frozen_ms_per_frame']:.1f} in the "
            "frozen part"
        )
    click.echo(f"plr-edge is {facts['ratio']:.1f} times faster, median of the experiences")
