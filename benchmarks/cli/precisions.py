"""`python -m benchmarks precisions`: the frozen part in float32, in int8 and in eager PyTorch."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.cli.options import again_option, output_option


@click.command("precisions")
@click.option("--size", "sizes", multiple=True, type=int, default=(128, 224), show_default=True,
              help="Size of the input in pixels; may be repeated.")  # fmt: skip
@click.option("--runs", default=100, show_default=True, type=click.IntRange(1),
              help="Calls of each engine.")  # fmt: skip
@again_option
@output_option
def command(sizes: tuple[int, ...], runs: int, again: bool, output: Path) -> None:
    """Time the frozen part of MobileNetV2 on one image and one thread, taking turns."""
    from benchmarks import precisions
    from benchmarks.results import Rows, write_results

    kept = Rows(output / "precisions.jsonl", runs, again=again)
    rows = kept.measured(
        "size", sizes, lambda n: precisions.compare_precisions(n, output, runs, click.echo)
    )
    text = precisions.markdown(rows)
    write_results(output, "precisions", rows, text)
    click.echo(text)
