"""`plr-edge run`: answer a live source, and learn while doing so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.logs import FORMATS, log_to_stderr
from plr_edge.cli.options import (
    RenamingCommand,
    allow_code_option,
    bits_option,
    budget_options,
    bundle_argument,
    engine_options,
    false_unknown_option,
    latent_memory_option,
    needs_extras,
    pool_option,
    schedule_option,
    state_option,
    threads_option,
    topic_option,
    trust_option,
    window_option,
)
from plr_edge.cli.values import Number, Whole, check_outputs

_SWITCH_S = 5e-4  # longest time that a thread holding the interpreter delays a frame
_RENAMED = {"--latents": "--latent-memory", "--memory": "--memory-limit"}


@click.command(
    "run",
    cls=RenamingCommand,
    renamed=_RENAMED,
    short_help="Classify live frames and learn from labels.",
)
@bundle_argument
@click.argument("source")
@state_option
@click.option(
    "--listen",
    default="127.0.0.1:8077",
    show_default=True,
    help="Address of the HTTP interface: HOST:PORT or unix:PATH.",
)
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="Certificate (PEM) of the HTTP interface, with --key.  [default: a self-signed one, where "
    "other machines reach --listen]",
)
@click.option("--key", type=click.Path(path_type=Path), help="Private key (PEM) of --certificate.")
@click.option(
    "--insecure",
    is_flag=True,
    help="Do not encrypt, although other machines reach --listen. Tokens and pictures can be read "
    "on the way.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="Answer to this host name too, e.g. that of a proxy.",
)
@click.option(
    "--rate",
    type=Number(0.1, 1000),
    show_default="the rate of its stamps",
    help="Frames per second at which a film or a ROS bag is played.",
)
@topic_option
@budget_options
@click.option("--cpus", help="CPU cores for the trainer, e.g. 2,3.")
@click.option(
    "--trainer-threads",
    type=Whole(1, 256),
    default=1,
    show_default=True,
    help="Threads of the trainer. At most its CPU cores.",
)
@schedule_option
@latent_memory_option
@bits_option
@pool_option
@window_option
@false_unknown_option
@allow_code_option
@click.option(
    "--report", type=click.Path(path_type=Path), help="Write a run report (.json or .html) on exit."
)
@click.option(
    "--log",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="Format of the log on standard error. Under journald its lines carry their priority.",
)
@threads_option
@engine_options
@trust_option
@needs_extras("train", "serve")
def command(
    bundle: Path,
    source: str,
    state: Path,
    listen: str,
    certificate: Path | None,
    key: Path | None,
    insecure: bool,
    names: tuple[str, ...],
    report: Path | None,
    log: str,
    **options: Any,
) -> None:
    """Classify frames from SOURCE and learn from labels while running.

    SOURCE is a camera (0, /dev/video0, rtsp://..., http://..., a GStreamer pipeline), a film, a
    ROS 2 bag, a folder to watch, or `none`: then the images to predict by HTTP are the frames. An
    address with a password is not for the command line, where all users see it: write it into a
    file that only you can read and give file:PATH, or into an environment variable and give
    env:NAME. Labels come from `plr-edge teach`, the page, or HTTP.
    """
    import os
    from dataclasses import fields

    # Set before NumPy is loaded: fitting the classifier must not use the core that frames need.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(options["threads"]))

    from plr_edge.cli.sources import read_source
    from plr_edge.robot.options import RobotOptions
    from plr_edge.robot.run_report import write_run_report
    from plr_edge.robot.stand_in import made_robot, start_again
    from plr_edge.serve.access import make_access, withdraw_address
    from plr_edge.serve.server import Service
    from plr_edge.store.discarding import discarded_if_blank
    from plr_edge.stream.live_source import open_live

    check_outputs((".json", ".html"), report=report)
    source = read_source(source)
    pair = _checked_pair(listen, certificate, key, insecure)
    _check_given(source, options)
    log_to_stderr(log)
    chosen = {field.name: options[field.name] for field in fields(RobotOptions)}
    with discarded_if_blank(state):
        robot, stand_in = made_robot(bundle, state, RobotOptions(**chosen))
        if stand_in is not None:
            state = stand_in.path
        try:
            if source != "none":
                how = options["rate"], options["topic"]
                robot.feeder.start(lambda stop: open_live(source, stop, *how))
            robot.requests.are_frames = source == "none"

            def serve() -> Service:
                access = make_access(
                    state, listen, certificate=pair, insecure=insecure, names=names
                )
                return Service(robot, access, listen, lambda at: _say_where(at, state))

            asked_to_end = _answer(robot, serve)
            withdraw_address(state)
            if report is not None:
                write_run_report(robot, report)
        finally:
            robot.model.close()
            if stand_in is not None:
                stand_in.close()
    if stand_in is not None and stand_in.can_go.is_set() and not asked_to_end:
        start_again()


def _check_given(source: str, options: dict[str, Any]) -> None:
    """Refuse options that the source has no use for.

    Raises:
        ConfigError: an option does not fit the source.
    """
    from plr_edge.errors import ConfigError

    if source == "none" and (options["rate"] is not None or options["topic"] is not None):
        raise ConfigError("--rate and --topic are for a film or a bag; leave them out with `none`")


def _checked_pair(
    listen: str, certificate: Path | None, key: Path | None, insecure: bool
) -> tuple[Path, Path] | None:
    """Return certificate and key if they are given, and warn of what others can read.

    Raises:
        ConfigError: a certificate is given without its key, or a key without its certificate.
    """
    from plr_edge.errors import ConfigError
    from plr_edge.serve.address import is_loopback, parse_listen

    parse_listen(listen)
    if (certificate is None) != (key is None):
        raise ConfigError("--certificate and --key belong together; give both")
    if insecure and not is_loopback(listen):
        click.echo(
            "other machines can reach this address, and nothing is encrypted; whoever listens on "
            "the network can read the tokens",
            err=True,
        )
    return None if certificate is None or key is None else (certificate, key)


def _answer(robot: Any, serve: Callable[[], Any]) -> bool:
    """Answer and serve until the robot is stopped. Return whether a signal asked for the end.

    Raises:
        ConfigError: it cannot be served, nor later, or serving ended by an error.
    """
    import signal
    import sys

    from plr_edge.errors import ConfigError
    from plr_edge.serve.keeping import KeptService

    service, asked = KeptService(robot, serve), list[int]()

    def end(number: int, _: object) -> None:
        asked.append(number)
        robot.stop()

    sys.setswitchinterval(_SWITCH_S)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    robot.run()
    service.stop()
    if service.failed:
        raise ConfigError("the HTTP interface failed; the log has the reason")
    return bool(asked)


def _say_where(address: Any, state: Path) -> None:
    """Print where the robot answers, with the token if only a person at a terminal sees it."""
    import sys

    from plr_edge.serve.access import tell_address
    from plr_edge.serve.tokens import FILES, TEACHER, VIEWER, read_token

    tell_address(state, address)
    secret = ""
    if sys.stderr.isatty() and address.url.startswith("http"):
        secret = f"#token={read_token(state)}"
    click.echo(
        f"serving at {address.url}{secret}; the token is in {state / FILES[TEACHER]}, that of who "
        f"may only look in {state / FILES[VIEWER]}",
        err=True,
    )
    if address.fingerprint is not None:
        click.echo(f"the certificate's sha256 is {address.fingerprint}", err=True)
