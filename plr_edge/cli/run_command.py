"""`plr-edge run`: answer a live source, and learn while doing so."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import click

from plr_edge.cli.options import (
    bundle_argument,
    engine_options,
    state_option,
    threads_option,
    trust_option,
)


@click.command("run")
@bundle_argument
@click.argument("source")
@state_option
@click.option("--listen", default="127.0.0.1:8077", show_default=True,
              help="HOST:PORT or unix:PATH of the HTTP interface.")  # fmt: skip
@click.option("--rate", type=click.FloatRange(0.1, 1000), help="Frames/s of a film.")
@click.option("--board", help="Take the budgets that are not given from this board; `auto` asks "
              "the machine which it is.")  # fmt: skip
@click.option("--topic", help="Of the images of a ROS bag; needed where it has several.")
@click.option("--power", help="Budget of the board, such as 7W.")
@click.option("--duty", help="Budget of training, such as 30% of a core.")
@click.option("--deadline", help="Of a frame, such as 33ms.")
@click.option("--max-temp", help="Such as 80C.")
@click.option("--memory", help="Limit of the trainer, such as 600MB.")
@click.option("--cpus", help="That the trainer may use, such as 2,3.")
@click.option("--schedule", help="Of the levels; see `plr-edge schedule`.")
@click.option("--latents", help="Budget of the latent memory.  [default: 8MB]")
@click.option("--bits", type=click.Choice(["4", "8"]), help="Of a stored latent.")
@click.option("--pool", type=click.IntRange(1), help="Side to which stored maps are pooled.")
@click.option("--allow-code", is_flag=True, help="Import what an unsigned bundle names.")
@threads_option
@engine_options
@trust_option
def command(bundle: Path, source: str, state: Path, listen: str, **options: Any) -> None:
    """Answer SOURCE as it comes, and teach it by HTTP, by `plr-edge teach` or on the page.

    SOURCE is a camera (0, /dev/video0, rtsp://..., a GStreamer pipeline), a film, a ROS 2
    bag, a folder to watch, or `none`.
    """
    import signal
    import threading
    from dataclasses import replace

    from plr_edge.bundle import open_bundle
    from plr_edge.config import AdaptConfig, parse_bytes
    from plr_edge.governor import Governor
    from plr_edge.runtime.live import Live
    from plr_edge.runtime.perception import return_memory_at_once
    from plr_edge.runtime.robot import Robot
    from plr_edge.serve.api import make_app
    from plr_edge.serve.server import is_loopback, read_token, start_server
    from plr_edge.stream.live_source import open_live

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    return_memory_at_once()
    options = with_board(options)
    budget = make_budget(options)
    config = AdaptConfig(
        n_threads=options["threads"],
        engine=options["engine"],
        providers=options["providers"],
        allow_code=options["allow_code"],
    )
    given = {
        "schedule": options["schedule"],
        "pool": options["pool"],
        "bits": int(options["bits"]) if options["bits"] else None,
        "memory_bytes": parse_bytes(options["latents"]) if options["latents"] else None,
    }
    config = replace(config, **{name: value for name, value in given.items() if value is not None})
    limit = parse_bytes(options["memory"]) if options["memory"] else None
    cpus = [int(c) for c in options["cpus"].split(",")] if options["cpus"] else None
    live = Live(open_bundle(bundle, options["trust"]), state, config,
                cpus=cpus, memory_limit_bytes=limit)  # fmt: skip
    try:
        total = sum(level.macs for level in live.bundle.levels)
        below = [
            sum(level.macs for level in live.bundle.levels[:i])
            for i in range(len(live.bundle.levels))
        ]
        step_s = [3 * 64 * (total - b + 1) / 5e9 for b in below]  # until it is measured
        robot = Robot(live, Governor(budget, live.schedule, step_s))
        frames = None
        if source != "none":
            frames = open_live(source, robot.stopping, options["rate"], options["topic"])
        token = read_token(state)
        server, thread = start_server(make_app(robot, token), listen)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: robot.stop())
        if frames is not None:
            threading.Thread(target=robot.feed, args=(frames,), daemon=True).start()
        where = listen if listen.startswith("unix:") else f"http://{listen}/#token={token}"
        if not is_loopback(listen):
            click.echo("others can reach this address; whoever has the token can teach", err=True)
        click.echo(f"serving at {where}", err=True)
        robot.run()
        server.should_exit = True
        thread.join(timeout=1.5)
    finally:
        live.close()


def with_board(options: dict[str, Any], root: Path = Path("/")) -> dict[str, Any]:
    """Fill the budgets that were not given from `--board`.

    Raises:
        ConfigError: there is no such board, or `auto` cannot tell which it is.
    """
    from plr_edge.boards import boards, detect_board, load_board
    from plr_edge.errors import ConfigError

    if options["board"] is None:
        return options
    board = detect_board(root) if options["board"] == "auto" else load_board(options["board"])
    if board is None:
        raise ConfigError(
            "--board auto: this machine does not say which board it is; name one of "
            + ", ".join(board.name for board in boards())
        )
    budget = board.budget
    defaults = {
        "power": (budget.power_w, 1, "W"),
        "duty": (budget.duty_share, 100, "%"),
        "deadline": (budget.deadline_ms, 1, "ms"),
        "max_temp": (budget.max_temp_c, 1, "C"),
        "memory": (budget.memory_bytes, 1e-6, "MB"),
    }
    logging.getLogger(__name__).info("board: %s", board.title)
    return options | {
        name: f"{value * factor:g}{unit}"
        for name, (value, factor, unit) in defaults.items()
        if value is not None and options[name] is None
    }


def make_budget(options: dict[str, Any]) -> Any:
    """Turn options into a `Budget`, refusing what this machine cannot measure."""
    from plr_edge.errors import ConfigError
    from plr_edge.governor import Budget
    from plr_edge.meters import find_power_meters, read_temperatures_c

    power, temperature = number_of(options["power"], "W"), number_of(options["max_temp"], "C")
    meters, reasons = find_power_meters()
    reasons += [f"{meter.name}: no total" for meter in meters if not meter.has_total]
    if power is not None and not any(meter.has_total for meter in meters):
        raise ConfigError(
            f"a power budget of {power:g} W needs a meter, and there is none here: "
            f"{'; '.join(reasons)}"
        )
    if temperature is not None and not read_temperatures_c():
        raise ConfigError(
            f"a limit of {temperature:g} C needs a sensor, and there is none that can be read here"
        )
    duty = number_of(options["duty"], "%")
    return Budget(
        power_w=power,
        duty_share=None if duty is None else duty / 100,
        deadline_ms=number_of(options["deadline"], "ms"),
        max_temp_c=temperature,
    )


def number_of(text: str | None, unit: str) -> float | None:
    """Read an amount such as `7W`; None where none was given.

    Raises:
        ConfigError: it is no amount of this unit.
    """
    from plr_edge.errors import ConfigError

    if text is None:
        return None
    match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*{re.escape(unit)}\s*", text, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{text[:40]!r} is no amount; write it like 7{unit}")
    return float(match[1])
