"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from plr_edge.cli.values import Number, Whole
from plr_edge.errors import require

F = TypeVar("F", bound=Callable[..., Any])


def with_new_names(args: list[str], renamed: Mapping[str, str]) -> list[str]:
    """Replace old option names in a command line, and warn about each once on stderr.

    Args:
        args: arguments of a command. What follows `--` is not an option.
        renamed: new option names by old ones, e.g. {"--latents": "--latent-memory"}.
    """
    n_options = args.index("--") if "--" in args else len(args)
    replaced, warned = [], set[str]()
    for argument in args[:n_options]:
        name, equals, value = argument.partition("=")
        new = renamed.get(name, name)
        if new != name and name not in warned:
            click.echo(f"{name} is now called {new}; the old name will be removed", err=True)
            warned.add(name)
        replaced.append(new + equals + value)
    return replaced + args[n_options:]


class RenamingCommand(click.Command):
    """A command that still accepts the old names of some options, with a warning on stderr."""

    def __init__(self, *args: Any, renamed: Mapping[str, str], **kwargs: Any) -> None:
        """Make a command.

        Args:
            args: positional arguments of `click.Command`.
            renamed: new option names by old ones, e.g. {"--latents": "--latent-memory"}.
            kwargs: keyword arguments of `click.Command`.
        """
        super().__init__(*args, **kwargs)
        self.renamed = renamed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Replace old names, then parse."""
        return super().parse_args(ctx, with_new_names(args, self.renamed))


def needs_extras(*extras: str) -> Callable[[F], F]:
    """Refuse to run a command while an extra is missing. Apply it as the innermost decorator."""

    def checked(command: F) -> F:
        @wraps(command)
        def run(*arguments: Any, **options: Any) -> Any:
            require(*extras, why=f"plr-edge {click.get_current_context().info_name}")
            return command(*arguments, **options)

        return cast(F, run)

    return checked


bundle_argument = click.argument("bundle", type=click.Path(path_type=Path))
stream_argument = click.argument("stream")
state_option = click.option(
    "--state",
    required=True,
    type=click.Path(path_type=Path),
    help="Directory of the learned state.",
)
trust_option = click.option(
    "--trust",
    type=click.Path(path_type=Path),
    help="Public Ed25519 key (PEM) that must have signed the bundle.",
)


def _not_needed(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    """Say that an option of earlier releases has no effect."""
    if given:
        click.echo("--allow-code has no effect: the code of a network is not imported", err=True)


allow_code_option = click.option(
    "--allow-code",
    is_flag=True,
    expose_value=False,
    callback=_not_needed,
    help="Has no effect: the code of a network is not imported. Earlier releases needed it.",
)
threads_option = click.option(
    "--threads",
    default=1,
    show_default=True,
    type=Whole(1, 256),
    help="Threads per inference engine. More than the free cores is slower.",
)
latent_memory_option = click.option(
    "--latent-memory",
    default="8MB",
    show_default=True,
    help="Bytes for stored latents to rehearse from.",
)
schedule_option = click.option(
    "--schedule",
    help="Rehearsal schedule: internal, basic, cumulative_weights, total_weights, input_size, "
    "layer_idx, classifier, progressive, measured, auto, or shares separated by commas.  [default: "
    "auto, which trains the blocks at the end, and in a robot the classifier meanwhile]",
)
bits_option = click.option(
    "--bits", type=Whole(), help="Bits per value of a stored latent, 4 or 8.  [default: 4]"
)
pool_option = click.option(
    "--pool", type=Whole(), help="Side to which stored maps are pooled. Not pooled by default."
)
window_option = click.option(
    "--window",
    type=Whole(0),
    help="Side of the central part of stored maps that blocks are trained on; 0 takes whole maps.  "
    "[default: half the side, or that of the state]",
)
false_unknown_option = click.option(
    "--false-unknown",
    help="Share of the frames of known classes that may be answered with `unknown`, e.g. 2%. "
    "[default: 1%, or what the state was last used with]",
)
topic_option = click.option(
    "--topic", help="Image topic of a ROS bag; required if there are several."
)
new_class_option = click.option(
    "--new-class",
    is_flag=True,
    help="Learn a label that looks like a known class, e.g. differs only by case, as a new class.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def robot_options(command: F) -> F:
    """Add the options that say where a running robot is, and what proves who asks."""
    for option in (
        click.option("--insecure", is_flag=True,
                     help="Do not expect encryption on the address of another machine."),
        click.option("--fingerprint",
                     help="SHA-256 of the robot's certificate, which `plr-edge run` prints. That "
                     "of --state by default."),
        click.option("--token-file", type=click.Path(path_type=Path),
                     help="File with the token. That of --state by default."),
        click.option("--listen",
                     help="Address of the running `plr-edge run`: HOST:PORT or unix:PATH.  "
                     "[default: what the robot of --state says, or 127.0.0.1:8077]"),
    ):  # fmt: skip
        command = option(command)
    return command


optional_state_option = click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="State of the robot, which holds its tokens. Not needed on the same machine.",
)


def engine_options(command: F) -> F:
    """Add the options that choose what runs the frozen part."""
    for option in (
        click.option("--providers", default="", callback=_split,
                     help="ONNX Runtime providers, best first, from cpu, cuda and tensorrt.  "
                     "[default: cpu]"),
        click.option("--engine", default="onnx", show_default=True,
                     type=click.Choice(["onnx", "tensorrt"]),
                     help="Engine that runs the frozen part."),
    ):  # fmt: skip
        command = option(command)
    return command


def budget_options(command: F) -> F:
    """Add the budgets of a robot, and the board that supplies defaults for them."""
    for option in (
        click.option("--memory-limit", help="Memory limit of the trainer process, e.g. 800MB."),
        click.option("--max-temp", help="Do not train above this temperature, e.g. 80C."),
        click.option("--deadline", help="Time limit per frame, e.g. 33ms."),
        click.option("--duty", help="Share of one core that training may use, e.g. 30%. On four "
                     "cores at most 400%."),
        click.option("--power", help="Power budget of the whole board, e.g. 7W."),
        click.option("--board",
                     help="Use this board's default budgets; `auto` detects the board."),
    ):  # fmt: skip
        command = option(command)
    return command


def _split(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in value.split(",") if name.strip())


def stream_options(command: F) -> F:
    """Add the options of a stream."""
    for option in (
        click.option("--strict", is_flag=True,
                     help="Stop at the first unreadable image instead of skipping it."),
        click.option("--split", default="train", show_default=True,
                     help="Part of `demo` or of a folder with train/ beside val/ or test/: "
                     "train, val, test, all."),
        click.option("--limit-per-class", type=Whole(),
                     help="Use at most this many images of each class."),
        topic_option,
        click.option("--white-level", type=Number(1e-6, 1e9),
                     help="Value of white in images of more than 8 bits, e.g. 4095 or 1.0. Found "
                     "from the images by default."),
        click.option("--labels", help="Topic that labels the images of a ROS bag."),
    ):  # fmt: skip
        command = option(command)
    return command


def for_shell(name: str) -> str:
    """Return the name of a class as bash reads it, with every character visible."""
    import shlex

    from plr_edge.stream.names import is_invisible

    def hidden(at: int) -> bool:
        c = name[at]
        if c in "\u200c\u200d":  # joiners, which belong to emoji and to some scripts
            return is_invisible(name, at)
        return not c.isprintable() or is_invisible(name, at)

    if not any(hidden(at) for at in range(len(name))):
        return shlex.quote(name) if not name.isalnum() else name
    escaped = (
        f"\\U{ord(c):08x}" if hidden(at) else "\\" + c if c in "\\'" else c
        for at, c in enumerate(name)
    )
    return f"$'{''.join(escaped)}'"


def printable(text: str) -> str:
    """Replace unprintable characters, which could move the cursor of a terminal.

    Class names and paths come from whoever taught the robot.
    """
    return "".join(char if char.isprintable() else "?" for char in text)
