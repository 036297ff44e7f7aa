"""`python -m benchmarks precisions`: the frozen part in float32, in int8 and in eager PyTorch."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("precisions")
@click.option("--size", "sizes", multiple=True, type=int, default=(128, 224), show_default=True,
              help="Of the input; may be repeated.")  # fmt: skip
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1),
              help="Calls of each.")  # fmt: skip
@click.option("-o", "--output", default="results", show_default=True,
              type=click.Path(path_type=Path), help="Where results and bundles go.")  # fmt: skip
def command(sizes: tuple[int, ...], runs: int, output: Path) -> None:
    """Time the frozen part of MobileNetV2 on one image and one thread, in turns."""
    import json

    from benchmarks.precisions import compare_precisions
    from plr_edge.files import replace_file

    facts = [compare_precisions(size, output, runs, click.echo) for size in sizes]
    replace_file(output / "precisions.json", json.dumps(facts, indent=1).encode())
    for one in facts:
        for row in one["rows"]:
            agreement = ""
            if "latent_cosine" in row:
                agreement = (
                    f"  cosine {row['latent_cosine']:.4f}, top-1 agrees on "
                    f"{row['top1_agreement']:.1%}, convolutions in float: "
                    f"{row['float_convolutions']}"
                )
            click.echo(f"{one['size']:>4} px  {row['name']:<8} {row['ms']:7.2f} ms{agreement}")
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in one["ratios"].items())
        click.echo(f"{one['size']:>4} px  {ratios}")
