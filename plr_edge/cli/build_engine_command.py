"""`plr-edge build-engine`: make the TensorRT plan of a bundle before a robot needs it."""

from __future__ import annotations

from pathlib import Path

import click

from plr_edge.cli.options import bundle_argument, trust_option


@click.command("build-engine")
@bundle_argument
@click.option("--workspace", help="Scratch that a layer may take, such as 512MB.  "
              "[default: a quarter of the free memory, which is also the most]")  # fmt: skip
@click.option("--max-batch", type=click.IntRange(1, 1024),
              help="Frames of one run; more are run in pieces.  [default: 16]")  # fmt: skip
@click.option("--optimization-level", type=click.IntRange(0, 5),
              help="0 builds fastest, 5 searches longest.  [default: 3]")  # fmt: skip
@click.option("--force", is_flag=True, help="Build even if there is a plan that fits.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def command(
    bundle: Path,
    workspace: str | None,
    max_batch: int | None,
    optimization_level: int | None,
    force: bool,
    trust: Path | None,
    as_json: bool,
) -> None:
    """Build the TensorRT plan of BUNDLE's frozen part for this board, and run it once.

    A plan that fits is kept; where one is built anew, the reason is printed. What is not given
    stays as it was in the plan before.
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
        workspace_bytes=parse_bytes(workspace) if workspace else None,
        optimization_level=optimization_level,
        why="--force was given" if force else None,
    )
    engine = TensorRTEngine(plan.data, outputs=plan.metadata["outputs"])
    size = opened.preprocessing.size
    engine.run(np.zeros((1, 3, size, size), np.float32))
    facts = {
        "plan": str(plan.path),
        "built": plan.reason is not None,
        "reason": plan.reason or "the plan that is there fits",
        "scratch_bytes": engine.scratch_bytes,
        "took_s": round(time.monotonic() - start, 1),
        **plan.metadata,
    }
    for name, value in facts.items():
        if not as_json:
            click.echo(f"{name:>18}  {value}")
    if as_json:
        click.echo(json.dumps(facts))
