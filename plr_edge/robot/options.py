"""Options of a robot: from what a user writes to a `Robot`, for the command line and for ROS."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plr_edge.boards import boards, detect_board, load_board
from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig, parse_bytes, parse_share
from plr_edge.errors import ConfigError, require
from plr_edge.replay.schedule import macs_from
from plr_edge.robot.background_trainer import TrainerLimits
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.runtime.malloc import return_memory_at_once

_log = logging.getLogger(__name__)
_GUESSED_MACS_PER_S = 5e9  # of a training step, until one is measured


@dataclass(frozen=True, kw_only=True)
class RobotOptions:
    """What `plr-edge run` and the ROS 2 node let a user choose, as the user writes it.

    Attributes:
        board: board whose budgets are the defaults. `auto` detects it.
        power: power budget of the board, e.g. 7W.
        duty: training budget, e.g. 30% of one core.
        deadline: latency budget of a frame, e.g. 33ms.
        max_temp: temperature limit, e.g. 80C.
        memory_limit: memory limit of the trainer process, e.g. 600MB.
        cpus: CPU cores of the trainer, e.g. 2,3.
        schedule: name of a schedule, or shares separated by commas.
        latent_memory: bytes for stored latents, e.g. 8MB.
        bits: bits per value of a stored latent, 8 or 4.
        pool: side to which stored maps are pooled.
        false_unknown: share of the frames of known classes that may be `unknown`, e.g. 2%.
        threads: threads of the engines.
        engine: engine of the frozen part, `onnx` or `tensorrt`.
        providers: execution providers of ONNX Runtime, best first.
        allow_code: import the code that an unsigned bundle names.
        trust: public key that must have signed the bundle.
    """

    board: str | None = None
    power: str | None = None
    duty: str | None = None
    deadline: str | None = None
    max_temp: str | None = None
    memory_limit: str | None = None
    cpus: str | None = None
    schedule: str | None = None
    latent_memory: str | None = None
    bits: int | None = None
    pool: int | None = None
    false_unknown: str | None = None
    threads: int = 1
    engine: str = "onnx"
    providers: tuple[str, ...] = ()
    allow_code: bool = False
    trust: Path | None = None


def make_robot(bundle: Path | Bundle, state: Path, options: RobotOptions) -> Robot:
    """Open a bundle and a state, load the engines, and make a robot with its budgets.

    Close its `model` at the end.

    Args:
        bundle: a directory, or a bundle that is open.
        state: directory of what is learned.
        options: what the user chose.

    Raises:
        PlrEdgeError: an option is not allowed, torch is not installed, or bundle, state or engine
            cannot be used.
    """
    require("train", why="a robot that learns")  # its trainer; this process never imports torch
    return_memory_at_once()
    options = with_board(options)
    budget = make_budget(options)
    engines = EngineConfig(
        n_threads=options.threads,
        engine=options.engine,
        providers=options.providers,
        allow_code=options.allow_code,
    )
    given: dict[str, Any] = {
        "schedule": options.schedule,
        "pool": options.pool,
        "bits": options.bits,
        "false_unknown": None
        if options.false_unknown is None
        else parse_share(options.false_unknown),
        "memory_bytes": parse_bytes(options.latent_memory) if options.latent_memory else None,
    }
    config = LearningConfig(**{name: value for name, value in given.items() if value is not None})
    limits = TrainerLimits(
        cpus=_cpus(options.cpus) if options.cpus else None,
        memory_limit_bytes=parse_bytes(options.memory_limit) if options.memory_limit else None,
    )
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, options.trust)
    model = OnlineModel(opened, state, config, engines, limits)
    step_s = [3 * 64 * (macs + 1) / _GUESSED_MACS_PER_S for macs in macs_from(opened.levels)]
    return Robot(model, Governor(budget, model.schedule, step_s))


def with_board(options: RobotOptions, root: Path = Path("/")) -> RobotOptions:
    """Fill in the budgets of the board where none is given.

    Args:
        options: what the user chose.
        root: root of the file system that a board is detected in.

    Raises:
        ConfigError: there is no such board, or `auto` cannot detect it.
    """
    if options.board is None:
        return options
    board = detect_board(root) if options.board == "auto" else load_board(options.board)
    if board is None:
        raise ConfigError(
            "board auto: this machine does not tell which board it is; name one of "
            + ", ".join(board.name for board in boards())
        )
    budget = board.budget
    defaults = {
        "power": (budget.power_w, 1, "W"),
        "duty": (budget.duty_share, 100, "%"),
        "deadline": (budget.deadline_ms, 1, "ms"),
        "max_temp": (budget.max_temp_c, 1, "C"),
        "memory_limit": (budget.memory_bytes, 1e-6, "MB"),
    }
    _log.info("board: %s", board.title)
    filled: dict[str, Any] = {
        name: f"{value * factor:g}{unit}"
        for name, (value, factor, unit) in defaults.items()
        if value is not None and getattr(options, name) is None
    }
    return replace(options, **filled)


def make_budget(options: RobotOptions) -> Budget:
    """Turn options into a `Budget`.

    Raises:
        ConfigError: an amount cannot be read, or this machine cannot measure it.
    """
    from plr_edge.meters import find_power_meters, read_temperatures_c

    power, temperature = number_of(options.power, "W"), number_of(options.max_temp, "C")
    meters, reasons = find_power_meters()
    reasons += [f"{meter.name}: no total" for meter in meters if not meter.has_total]
    if power is not None and not any(meter.has_total for meter in meters):
        raise ConfigError(
            f"a power budget of {power:g} W needs a meter, and there is none here: "
            f"{'; '.join(reasons)}"
        )
    if temperature is not None and not read_temperatures_c():
        raise ConfigError(
            f"a limit of {temperature:g} C needs a temperature sensor, and none can be read here"
        )
    duty = number_of(options.duty, "%")
    return Budget(
        power_w=power,
        duty_share=None if duty is None else duty / 100,
        deadline_ms=number_of(options.deadline, "ms"),
        max_temp_c=temperature,
    )


def number_of(text: str | None, unit: str) -> float | None:
    """Read an amount such as `7W`. None stays None.

    Raises:
        ConfigError: the text is not an amount of this unit.
    """
    if text is None:
        return None
    match = re.fullmatch(rf"\s*(\d+(?:\.\d+)?)\s*{re.escape(unit)}\s*", text, re.IGNORECASE)
    if not match:
        raise ConfigError(f"{text[:40]!r} is not an amount; write it like 7{unit}")
    return float(match[1])


def _cpus(text: str) -> list[int]:
    try:
        cpus = [int(number) for number in text.split(",")]
    except ValueError:
        raise ConfigError(f"cpus is {text[:40]!r}; write numbers like 2,3") from None
    here = os.sched_getaffinity(0)
    if not set(cpus) <= here:
        raise ConfigError(f"cpus is {text[:40]!r}; this process may use {sorted(here)}")
    return cpus
