"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
stream_argument = click.argument("stream")
state_option = click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory of what is learned.",
)
trust_option = click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="Public Ed25519 key (PEM) that must have signed the bundle.",
)
listen_option = click.option(
    "--listen",
    default="127.0.0.1:8077",
    show_default=True,
    help="Where `plr-edge run` serves: HOST:PORT or unix:PATH.",
)
threads_option = click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Threads of the engines; more than free cores is slower.",
)


def stream_options(command: F) -> F:
    """Add the options of a stream."""
    for option in (
        click.option("--strict", is_flag=True, help="Stop at an unreadable image."),
        click.option(
            "--split",
            default="train",
            show_default=True,
            help="Part of an image pack: train, test, all, axis0 or axis1.",
        ),
        click.option(
            "--limit-per-class",
            type=click.IntRange(1),
            help="Of an image pack, take the first so many of each class.",
        ),
        click.option("--topic", help="Of the images of a ROS bag; needed where it has several."),
        click.option("--labels", help="Topic that labels the images of a ROS bag."),
    ):
        command = option(command)
    return command
