"""Every figure that the pages quote: the command that makes it, and the part that shows it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import (
    cost,
    fleet_runs,
    grid_report,
    growth,
    pace,
    pages,
    precisions,
    unknown_report,
)
from benchmarks.peers import comparison
from benchmarks.results import Row, read_results, table
from benchmarks.suites import SUITES
from benchmarks.summary import summary
from plr_edge.errors import ConfigError

ROOT = Path(__file__).parents[1]
README, RESULTS = "README.md", "benchmarks/results.md"
SETTINGS = ("no more than 3 %",)  # numbers on the pages that are settings, not measurements
_LAST_LAYER = ("nearest class mean", "streaming LDA", "ridge")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of `python -m benchmarks` whose results the pages show.

    Attributes:
        arguments: arguments of the full form.
        quick: arguments of a form that takes a minute or so.
        minutes: minutes of the full form on two cores.
        data: takes --data.
        weights: takes --weights.
        jobs: takes --jobs.
    """

    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--quick",)
    minutes: int
    data: bool = True
    weights: bool = False
    jobs: bool = False


COMMANDS = {
    "cost": Command(minutes=3, data=False),
    "streams": Command(minutes=30, jobs=True),
    "compare": Command(arguments=("--tune",), minutes=1200, jobs=True),
    "unknown": Command(minutes=120, jobs=True),
    "peers": Command(quick=("--frames", "2", "--peer", "river"), minutes=20),
    "fleet": Command(
        arguments=("--seeds", "1"), minutes=7, jobs=True,
        quick=("--seeds", "1", "--dataset", "mnist", "--frames", "4", "--robots", "2"),
    ),
    "growth": Command(minutes=20, data=False),
    "precisions": Command(quick=("--size", "96", "--runs", "5"), minutes=2, data=False),
    "pace": Command(quick=("--per-class", "1", "--epochs", "1"), minutes=3),
    "generated": Command(minutes=70, weights=True, jobs=True),
    "wide": Command(minutes=180, weights=True, jobs=True),
    "boards": Command(quick=(), minutes=1, data=False),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A marked part of a page.

    Attributes:
        name: name of the mark.
        page: page below the checkout.
        commands: commands whose results it shows.
        render: folder of results -> Markdown.
    """

    name: str
    page: str
    commands: tuple[str, ...]
    render: Callable[[Path], str]


def _from(name: str, markdown: Callable[[list[Row]], str]) -> Part:
    """Return the part of results.md that shows the tables of one command."""

    def render(output: Path) -> str:
        rows, about = read_results(output, name)
        cores = f"{about.get('n_cores', '?')} cores of {about.get('cpu_model', 'a processor')}"
        made = f"`python -m benchmarks {name}`, commit {about['commit']}, {cores}"
        return f"{made}, torch {about['torch']}.\n\n{markdown(rows)}"

    return Part(name, RESULTS, (name,), render)


def _compared(rows: list[Row]) -> str:
    return grid_report.markdown(rows, whole={one.name for one in SUITES["compare"].thorough})


def _five_figures(output: Path) -> str:
    """Return the README's table."""
    (demo,), about = read_results(output, "cost")
    speed = read_results(output, "pace")[0][0]
    streams = read_results(output, "streams")[0]
    lines = {line["method"]: line for line in summary(streams, SUITES["streams"].full[0].name)}
    closed = max(lines[name]["accuracy %"] for name in _LAST_LAYER)
    frame = " + ".join(f"{ms:.1f}" for ms in demo["frame_ms"].values())
    rows = [
        ("twelve look-alike fruits, shown once each: held-out frames right",
         f"{100 * demo['accuracy']:.1f} %", "plr-edge demo"),
        ("CIFAR-100, one pass; best closed form on the last layer",
         f"{lines['plr']['accuracy %']:.1f} %; {closed:.1f} %", "python -m benchmarks streams"),
        ("learning, end to end, beside latent replay in eager PyTorch",
         f"{speed['ratio']:.1f} times as fast", "python -m benchmarks pace"),
        ("one frame, frozen + adaptive part, MobileNetV2 at 128 pixels", f"{frame} ms",
         "plr-edge profile"),
        ("peak memory of a process that answers", f"{demo['peak_rss_bytes'] / 1e6:.0f} MB",
         "plr-edge demo"),
    ]  # fmt: skip
    machine = f"{about.get('n_cores', '?')} cores of {about.get('cpu_model', 'a processor')}"
    keys = (f"on {machine}, one thread", "figure", "command")
    return table([dict(zip(keys, (a, b, f"`{c}`"), strict=True)) for a, b, c in rows])


def _boards(rows: list[Row]) -> str:
    return str(rows[0]["table"])


PARTS = (
    Part("readme", README, ("cost", "streams", "pace"), _five_figures),
    _from("streams", grid_report.markdown),
    _from("compare", _compared),
    _from("unknown", unknown_report.markdown),
    _from("peers", lambda rows: comparison.markdown(rows, rows[0]["stream"])),
    _from("fleet", fleet_runs.markdown),
    _from("growth", lambda rows: growth.markdown(rows[0])),
    _from("precisions", precisions.markdown),
    _from("pace", lambda rows: pace.markdown(rows[0])),
    _from("generated", grid_report.markdown),
    _from("wide", grid_report.markdown),
    _from("cost", lambda rows: cost.markdown(rows[0])),
    _from("boards", _boards),
)


def check_pages(root: Path = ROOT) -> list[str]:
    """Return what is wrong with the pages, one line each; nothing is run.

    Each part that a page marks is filled by a command, each part here has its marks, and no figure
    stands outside of a marked part.
    """
    problems = []
    for page in (README, RESULTS):
        marked, known = pages.parts(root / page), {p.name for p in PARTS if p.page == page}
        problems += [
            f"{page}: nothing fills the part {name!r}" for name in marked if name not in known
        ]
        problems += [f"{page}: there is no part {name!r}" for name in sorted(known - set(marked))]
        problems += [
            f"{page}: the part {name!r} is empty" for name, text in marked.items() if not text
        ]
        problems += pages.figures_outside(root / page, SETTINGS)
    return problems


def fill_pages(output: Path, only: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Fill the parts whose results are there; return their names."""
    filled = []
    for part in PARTS:
        wanted = not only or part.name in only or set(part.commands) & set(only)
        if wanted and all((output / f"{name}.json").is_file() for name in part.commands):
            pages.fill(root / part.page, part.name, part.render(output))
            filled.append(part.name)
    return filled


def run_command(name: str, places: Mapping[str, object], *, quick: bool) -> None:
    """Run a benchmark in a process of its own, with those of the options that it takes.

    Raises:
        ConfigError: it failed.
    """
    command = COMMANDS[name]
    takes = {"--output": True, "--data": command.data, "--weights": command.weights,
             "--jobs": command.jobs}  # fmt: skip
    options = [
        text
        for option, value in places.items() if takes[option] and value is not None
        for text in (option, str(value))
    ]  # fmt: skip
    arguments = [name, *(command.quick if quick else command.arguments), *options]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, check=False)
    if done.returncode:
        raise ConfigError(f"`python -m benchmarks {shlex.join(arguments)}` failed")
