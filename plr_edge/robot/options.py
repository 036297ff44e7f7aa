"""Options of a robot: from what a user writes to a `Robot`, for the command line and for ROS."""

from __future__ import annotations

import logging
import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from plr_edge.boards import Board, boards, detect_board, load_board
from plr_edge.bundle.bundle import Bundle
from plr_edge.bundle.reading import open_bundle
from plr_edge.config import EngineConfig, LearningConfig, learning_config, parse_bytes
from plr_edge.errors import BundleError, ConfigError, require
from plr_edge.replay.latent_memory import SEQ_BYTES, LatentMemory
from plr_edge.replay.schedule import macs_from, make_schedule
from plr_edge.robot.background_trainer import TrainerLimits
from plr_edge.robot.governor import Budget, Governor
from plr_edge.robot.level_choice import WHILE_FRAMES_COME
from plr_edge.robot.online_model import OnlineModel
from plr_edge.robot.robot import Robot
from plr_edge.robot.trainer_memory import fitting_needs
from plr_edge.runtime.malloc import return_memory_at_once

_log = logging.getLogger(__name__)
_GUESSED_MACS_PER_S = 5e9  # of a training step, until one is measured
AMOUNTS = {  # attribute of `Budget`, unit and factor of each option
    "power": ("power_w", "W", 1),
    "duty": ("duty_share", "%", 100),
    "deadline": ("deadline_ms", "ms", 1),
    "max_temp": ("max_temp_c", "C", 1),
}


@dataclass(frozen=True, kw_only=True)
class RobotOptions:
    """What `plr-edge run` and the ROS 2 node let a user choose, as the user writes it.

    Attributes:
        board: board whose budgets are the defaults. `auto` detects it.
        power: power budget of the board, e.g. 7W.
        duty: training budget, e.g. 30% of one core.
        deadline: latency budget of a frame, e.g. 33ms.
        max_temp: temperature limit, e.g. 80C.
        memory_limit: memory limit of the trainer process, e.g. 800MB.
        cpus: CPU cores of the trainer, e.g. 2,3.
        trainer_threads: threads of the trainer.
        schedule: name of a schedule, or shares separated by commas.
        latent_memory: bytes for stored latents, e.g. 8MB.
        bits: bits per value of a stored latent, 8 or 4.
        pool: side to which stored maps are pooled.
        window: side of the central part of stored maps that blocks are trained on.
        false_unknown: share of the frames of known classes that may be `unknown`, e.g. 2%.
        threads: threads of the engines.
        engine: engine of the frozen part, `onnx` or `tensorrt`.
        providers: execution providers of ONNX Runtime, best first.
        trust: public key that must have signed the bundle.
    """

    board: str | None = None
    power: str | None = None
    duty: str | None = None
    deadline: str | None = None
    max_temp: str | None = None
    memory_limit: str | None = None
    cpus: str | None = None
    trainer_threads: int = 1
    schedule: str | None = None
    latent_memory: str | None = None
    bits: int | None = None
    pool: int | None = None
    window: int | None = None
    false_unknown: str | None = None
    threads: int = 1
    engine: str = "onnx"
    providers: tuple[str, ...] = ()
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
    board = find_board(options.board)
    cpus = None if options.cpus is None else _cpus(options.cpus)
    budget = read_budget(options, board, len(cpus or os.sched_getaffinity(0)))
    check_measurable(budget)
    memory_limit = read_memory_limit(options, board)
    engines = EngineConfig(
        n_threads=options.threads,
        engine=options.engine,
        providers=options.providers,
    )
    given = {name: getattr(options, name) for name in ("schedule", "bits", "pool", "window")}
    config = learning_config(options.latent_memory, options.false_unknown, **given)
    if isinstance(bundle, Path) and not bundle.exists():
        raise BundleError(f"there is no {bundle}; check its path and its mount", can_pass=True)
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle, options.trust)
    check_learning(opened, config)
    n_threads = _trainer_threads(options.trainer_threads, cpus)
    needs = None
    if memory_limit is not None:
        trainer = replace(engines, n_threads=n_threads)
        needs = fitting_needs(opened, config, trainer, memory_limit)
    limits = TrainerLimits(
        cpus=cpus,
        n_threads=n_threads,
        memory_limit_bytes=memory_limit,
        divisor=needs.divisor if needs else 1,
    )
    model = OnlineModel(opened, state, config, engines, limits)
    levels = opened.trained_levels(model.config.window)
    step_s = [3 * 64 * (macs + 1) / _GUESSED_MACS_PER_S for macs in macs_from(levels)]
    why = WHILE_FRAMES_COME if model.config.schedule == "auto" else ""
    robot = Robot(model, Governor(budget, model.schedule, step_s, why))
    robot.governor_loop.consolidation.needs = needs
    return robot


def check_learning(bundle: Bundle, config: LearningConfig) -> None:
    """Refuse settings by which a bundle cannot be trained, before its state is opened.

    Raises:
        ConfigError: the memory cannot hold a single latent, or bits or pool is not allowed.
        ScheduleError: the schedule does not fit the bundle.
    """
    make_schedule(
        config.schedule_name, bundle.levels, config.step_costs or (1.0,) * len(bundle.levels)
    )
    record_bytes = bundle.codec(config.bits, config.pool).record_bytes + SEQ_BYTES
    LatentMemory(record_bytes, config.memory_bytes, config.seed)


def find_board(name: str | None, root: Path = Path("/")) -> Board | None:
    """Return the board that `--board` names. None if there is no `--board`.

    Args:
        name: its name. `auto` detects it.
        root: root of the file system that a board is detected in.

    Raises:
        ConfigError: there is no such board, or `auto` cannot detect it.
    """
    if name is None:
        return None
    board = detect_board(root) if name == "auto" else load_board(name)
    if board is None:
        raise ConfigError(
            "board auto: this machine does not tell which board it is; name one of "
            + ", ".join(board.name for board in boards())
        )
    _log.info("board: %s", board.title)
    return board


def read_budget(options: RobotOptions, board: Board | None, n_cores: int | None) -> Budget:
    """Read the budgets that were given, and take the others from the board.

    Args:
        options: what the user chose.
        board: its budgets are the defaults.
        n_cores: cores that training may use. None if unknown.

    Raises:
        ConfigError: an amount cannot be read, or is more than the machine has.
    """
    values: dict[str, float | None] = {}
    for option, (name, unit, factor) in AMOUNTS.items():
        value = number_of(getattr(options, option), unit)
        default = None if board is None else getattr(board.budget, name)
        values[name] = default if value is None else value / factor
    duty = values["duty_share"]
    if options.duty is not None and duty is not None and n_cores is not None and duty > n_cores:
        raise ConfigError(
            f"a duty of {options.duty} is more than {n_cores} core{'s' * (n_cores > 1)} can "
            f"give; 100% is one core, so give at most {100 * n_cores}%"
        )
    return Budget(**values)


def read_memory_limit(options: RobotOptions, board: Board | None) -> int | None:
    """Return the memory limit of the trainer process in bytes. None if it has none.

    Raises:
        ConfigError: the size cannot be read.
    """
    if options.memory_limit is not None:
        return parse_bytes(options.memory_limit)
    return None if board is None else board.budget.memory_bytes


def budget_texts(budget: Budget, memory_limit: int | None) -> dict[str, str | None]:
    """Return budgets as a user writes them, by option. None stands for no limit."""
    texts: dict[str, str | None] = {}
    for option, (name, unit, factor) in AMOUNTS.items():
        value = getattr(budget, name)
        texts[option] = None if value is None else f"{value * factor:g}{unit}"
    texts["memory_limit"] = None if memory_limit is None else f"{memory_limit / 1e6:.10g}MB"
    return texts


def check_measurable(budget: Budget) -> None:
    """Refuse a budget that nothing on this machine measures.

    Raises:
        ConfigError: there is one.
    """
    from plr_edge.meters import find_power_meters, read_temperatures_c

    meters, reasons = find_power_meters()
    reasons += [f"{meter.name}: no total" for meter in meters if not meter.has_total]
    if budget.power_w is not None and not any(meter.has_total for meter in meters):
        raise ConfigError(
            f"a power budget of {budget.power_w:g} W needs a meter, and there is none here: "
            f"{'; '.join(reasons)}"
        )
    if budget.max_temp_c is not None and not read_temperatures_c():
        raise ConfigError(
            f"a limit of {budget.max_temp_c:g} C needs a temperature sensor, and none can be read "
            "here"
        )


def number_of(text: str | None, unit: str) -> float | None:
    """Read an amount such as `7W`. None stays None.

    Raises:
        ConfigError: the text is not an amount of this unit, or not above 0.
    """
    if text is None:
        return None
    match = re.fullmatch(rf"\s*([0-9]+(?:\.[0-9]+)?)\s*{re.escape(unit)}\s*", text, re.IGNORECASE)
    number = float(match[1]) if match else 0.0
    if not 0 < number < math.inf:
        raise ConfigError(f"{text[:40]!r} is not an amount above 0; write it like 7{unit}")
    return number


def _cpus(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in parts):
        raise ConfigError(f"cpus is {text[:40]!r}; write numbers like 2,3")
    cpus = sorted({int(part) for part in parts})
    here = os.sched_getaffinity(0)
    if not set(cpus) <= here:
        raise ConfigError(f"cpus is {text[:40]!r}; this process may use {sorted(here)}")
    return cpus


def _trainer_threads(n_threads: int, cpus: list[int] | None) -> int:
    n_cores = len(cpus or os.sched_getaffinity(0))
    if not 1 <= n_threads <= n_cores:
        raise ConfigError(
            f"{n_threads} trainer threads for the {n_cores} core{'s' * (n_cores > 1)} that the "
            f"trainer may use; give --trainer-threads 1 to {n_cores}"
        )
    return n_threads
