"""`plr-edge build-engine`: build the TensorRT plan of a bundle before a robot needs it."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import bundle_argument, json_option, trust_option
from plr_edge.cli.values import Whole


@click.command("build-engine")
@bundle_argument
@click.option(
    "--workspace",
    show_default="a quarter of the free memory, which is also the limit",
    help="Scratch memory that TensorRT may use while building, e.g. 512MB.",
)
@click.option(
    "--max-batch",
    type=Whole(1, 1024),
    show_default="16",
    help="Largest batch of one run. Larger batches are run in pieces.",
)
@click.option(
    "--optimization-level",
    type=Whole(0, 5),
    show_default="3",
    help="Effort of the builder: 0 builds fastest, 5 searches longest.",
)
@click.option("--force", is_flag=True, help="Build even if a matching plan exists.")
@trust_option
@json_option
def command(
    bundle: Path,
    workspace: str | None,
    max_batch: int | None,
    optimization_level: int | None,
    force: bool,
    trust: Path | None,
    as_json: bool,
) -> None:
    """Build the TensorRT plan of a bundle.

    The plan of BUNDLE's frozen part is built for this board and run once. A plan that already
    matches is kept. If a new one is built, the reason is printed. Settings that are not given are
    taken from the previous plan.
    """
    import json
    import time

    import numpy as np

    from plr_edge.bundle.reading import open_bundle
    from plr_edge.config import parse_bytes
    from plr_edge.engines.plan_cache import open_plan
    from plr_edge.engines.tensorrt_engine import TensorRTEngine

    opened, start = open_bundle(bundle, trust), time.monotonic()
    plan = open_plan(
        opened,
        max_batch=max_batch,
        workspace_bytes=None if workspace is None else parse_bytes(workspace),
        optimization_level=optimization_level,
        why="--force was given" if force else None,
    )
    engine = TensorRTEngine(plan.data, outputs=plan.metadata["outputs"])
    engine.run(np.zeros((1, *opened.preprocessing.input_shape), np.float32))
    summary = {
        "plan": str(plan.path),
        "built": plan.reason is not None,
        "reason": plan.reason or "the existing plan matches",
        "scratch_bytes": engine.scratch_bytes,
        "took_s": round(time.monotonic() - start, 1),
        **plan.metadata,
    }
    if as_json:
        click.echo(json.dumps(summary))
        return
    for name, value in summary.items():
        click.echo(f"{name:>18}  {value}")
