"""Options that several benchmarks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from plr_edge.errors import ConfigError

if TYPE_CHECKING:  # it loads torch
    from benchmarks.scenarios import Scenario

F = Callable[..., Any]

data_option = click.option(
    "--data", default="packs", show_default=True, envvar="PLR_EDGE_DATA",
    type=click.Path(path_type=Path), help="Folder of the image packs.",
)  # fmt: skip
output_option = click.option(
    "-o", "--output", default="results", show_default=True, type=click.Path(path_type=Path),
    help="Folder of results and caches.",
)  # fmt: skip
again_option = click.option(
    "--again", is_flag=True, help="Discard earlier results of the same settings."
)
jobs_option = click.option(
    "--jobs", default=1, show_default=True, type=click.IntRange(1),
    help="Number of processes. More than there are free cores spoils the times.",
)  # fmt: skip
memory_option = click.option(
    "--latent-memory",
    "memory",
    default="8MB",
    show_default=True,
    help="Bytes for stored latents to rehearse from.",
)
bundle_option = click.option(
    "--bundle", type=click.Path(path_type=Path),
    help="Bundle to measure.  [default: MobileNetV2 at 128 pixels, exported on the way]",
)  # fmt: skip
weights_option = click.option(
    "--weights", envvar="PLR_EDGE_WEIGHTS", type=click.Path(path_type=Path),
    help="Weights of bir_c3: the file, or the folder that holds bir-c3-5x16-cifar10/.",
)  # fmt: skip


def make_settings(
    data: Path, output: Path, memory: str = "8MB", bits: str | None = None, **paths: Path | None
) -> Any:
    """Make the settings of a grid from options."""
    from dataclasses import replace

    from benchmarks.runner import Settings
    from plr_edge.config import LearningConfig, parse_bytes

    config = LearningConfig(memory_bytes=parse_bytes(memory))
    config = replace(config, bits=int(bits)) if bits else config
    return Settings(data=data, output=output, config=config, **paths)


def of_data_sets(
    scenarios: tuple[Scenario, ...], datasets: tuple[str, ...]
) -> tuple[Scenario, ...]:
    """Return the streams of some data sets, or all of them if none is named.

    Raises:
        ConfigError: no stream is of one of these.
    """
    known = sorted({one.dataset for one in scenarios})
    missing = [name for name in datasets if name not in known]
    if missing:
        raise ConfigError(f"no stream is of {', '.join(missing)}; there are {', '.join(known)}")
    return tuple(one for one in scenarios if not datasets or one.dataset in datasets)
