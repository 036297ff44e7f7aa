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
allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Import the code that an unsigned bundle's backbone names."
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


def engine_options(command: F) -> F:
    """Add what runs the frozen part."""
    for option in (
        click.option("--providers", default="", callback=_split,
                     help="Of ONNX Runtime, best first: cpu, cuda, tensorrt.  [default: cpu]"),
        click.option("--engine", default="onnx", show_default=True,
                     type=click.Choice(["onnx", "tensorrt"]), help="Of the frozen part."),
    ):  # fmt: skip
        command = option(command)
    return command


def budget_options(command: F) -> F:
    """Add the budgets that a robot keeps to, and the board that they may be taken from."""
    for option in (
        click.option("--memory", help="Limit of the trainer, such as 600MB."),
        click.option("--max-temp", help="Such as 80C."),
        click.option("--deadline", help="Of a frame, such as 33ms."),
        click.option("--duty", help="Budget of training, such as 30% of a core."),
        click.option("--power", help="Budget of the board, such as 7W."),
        click.option("--board", help="Take the budgets that are not given from this board; `auto` "
                     "asks the machine which it is."),
    ):  # fmt: skip
        command = option(command)
    return command


def _split(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def stream_options(command: F) -> F:
    """Add the options of a stream."""
    for option in (
        click.option("--strict", is_flag=True, help="Stop at an unreadable image."),
        click.option(
            "--split",
            default="train",
            show_default=True,
            help="Part of `demo`, or of a folder that holds train/ and test/: train, test or all.",
        ),
        click.option(
            "--limit-per-class",
            type=click.IntRange(1),
            help="Take at most this many frames of each class.",
        ),
        click.option("--topic", help="Of the images of a ROS bag; needed where it has several."),
        click.option("--labels", help="Topic that labels the images of a ROS bag."),
    ):
        command = option(command)
    return command


def printable(text: str) -> str:
    """Replace what could move a terminal's cursor; names come from whoever taught."""
    return "".join(char if char.isprintable() else "?" for char in text)
