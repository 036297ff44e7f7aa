"""`plr-edge run`: answer a live source, and learn while doing so."""

from __future__ import annotations

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
)
from plr_edge.cli.values import Number, check_outputs

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
    "--rate",
    type=Number(0.1, 1000),
    show_default="the rate of its stamps",
    help="Frames per second at which a film or a ROS bag is played.",
)
@topic_option
@budget_options
@click.option("--cpus", help="CPU cores for the trainer, e.g. 2,3.")
@schedule_option
@latent_memory_option
@bits_option
@pool_option
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
    report: Path | None,
    log: str,
    **options: Any,
) -> None:
    """Classify frames from SOURCE and learn from labels while running.

    SOURCE is a camera (0, /dev/video0, rtsp://..., a GStreamer pipeline), a film, a ROS 2 bag, a
    folder to watch, or `none`. Labels come from `plr-edge teach`, the page, or HTTP.
    """
    import os
    import signal
    import sys
    import threading
    from dataclasses import fields

    # Set before NumPy is loaded: fitting the classifier must not use the core that frames need.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", str(options["threads"]))

    from plr_edge.errors import ConfigError
    from plr_edge.robot.options import RobotOptions, make_robot
    from plr_edge.robot.run_report import write_run_report
    from plr_edge.serve.address import is_loopback
    from plr_edge.serve.auth import read_token
    from plr_edge.serve.server import Service
    from plr_edge.store.discarding import discarded_if_blank
    from plr_edge.stream.live_source import open_live

    check_outputs((".json", ".html"), report=report)
    if not is_loopback(listen):
        click.echo(
            "other machines can reach this address; whoever has the token can teach", err=True
        )
    log_to_stderr(log)
    chosen = {field.name: options[field.name] for field in fields(RobotOptions)}
    if source == "none" and (options["rate"] is not None or options["topic"] is not None):
        raise ConfigError("--rate and --topic are for a film or a bag; leave them out with `none`")
    with discarded_if_blank(state):
        robot = make_robot(bundle, state, RobotOptions(**chosen))
        try:
            frames = None
            if source != "none":
                frames = open_live(source, robot.stopping, options["rate"], options["topic"])
            service = Service(robot, read_token(state), listen, lambda at: _say_where(at, state))
            sys.setswitchinterval(_SWITCH_S)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: robot.stop())
            if frames is not None:
                threading.Thread(target=robot.feed, args=(frames,), daemon=True).start()
            robot.run()
            service.stop()
            if report is not None:
                write_run_report(robot, report)
            if service.failed:
                raise ConfigError("the HTTP interface failed; the log has the reason")
        finally:
            robot.model.close()


def _say_where(address: str, state: Path) -> None:
    """Print where the robot answers, with the token if only a person at a terminal sees it."""
    import sys

    from plr_edge.serve.auth import read_token

    secret = ""
    if sys.stderr.isatty() and address.startswith("http"):
        secret = f"#token={read_token(state)}"
    click.echo(f"serving at {address}{secret}; the token is in {state / 'token'}", err=True)
