"""Rows of results: kept line by line so that a run resumes, and written as JSON, CSV and tables."""

from __future__ import annotations

import csv
import importlib.metadata
import io
import json
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from plr_edge.errors import ConfigError, MissingExtraError
from plr_edge.files import replace_file
from plr_edge.meters.board import describe_machine
from plr_edge.report import page as report

Row = dict[str, Any]
Call = tuple[Callable[..., Any], tuple[Any, ...]]
_COMPUTES = ("plr-edge", "torch", "onnxruntime", "numpy", "scikit-learn", "faiss-cpu")


class Rows:
    """Rows in a JSON Lines file. Rows of other settings stay in the file and are not read."""

    def __init__(self, file: Path, settings: Any, *, again: bool = False) -> None:
        """Read the rows that were made with the same settings.

        Args:
            file: .jsonl file; made when the first row is added.
            settings: JSON values, of which each difference counts.
            again: delete the rows of these settings.
        """
        self.file, self._settings = file, json.loads(json.dumps(settings))
        text = file.read_text() if file.is_file() else ""
        whole = text[: text.rfind("\n") + 1]  # a process may have died while it wrote
        lines = [json.loads(line) for line in whole.splitlines()]
        own = [line for line in lines if line["settings"] == self._settings]
        if whole != text or (again and own):
            lines = [line for line in lines if not (again and line in own)]
            replace_file(file, "".join(json.dumps(line) + "\n" for line in lines).encode())
        self.rows: list[Row] = [] if again else [line["row"] for line in own]

    def add(self, row: Row) -> None:
        """Append a row, on disk too."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"settings": self._settings, "row": row})
        with self.file.open("a") as file:
            file.write(line + "\n")
        self.rows.append(json.loads(line)["row"])

    def measured(self, key: str, wanted: Sequence[Any], measure: Callable[[Any], Row]) -> list[Row]:
        """Add a row for each value of `key` that has none yet, and return the rows of all."""
        for value in wanted:
            if (value,) not in self.of(key):
                self.add(measure(value))
        return [row for row in self.rows if row[key] in wanted]

    def of(self, *keys: str) -> set[tuple[Any, ...]]:
        """Return the values of keys that occur in rows."""
        return {tuple(row[key] for key in keys) for row in self.rows}


def in_processes(calls: list[Call], jobs: int) -> Iterator[Any]:
    """Yield the results of calls as they come, each from a process of its own.

    Args:
        calls: function and arguments, all of which can be pickled.
        jobs: processes at a time.

    Raises:
        MissingExtraError: joblib is not installed.
    """
    try:
        import joblib
    except ImportError:
        raise MissingExtraError(
            "the benchmarks need joblib; pip install 'plr-edge[bench]'"
        ) from None
    # a process whose memory grew is replaced by a new one, which is what we want
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    with joblib.parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
        tasks = (joblib.delayed(function)(*arguments) for function, arguments in calls)
        yield from joblib.Parallel(return_as="generator_unordered", batch_size=1)(tasks)


def write_results(
    output: Path,
    name: str,
    rows: list[Row],
    markdown: str,
    sections: Callable[[], list[str]] | None = None,
    flat: list[Row] | None = None,
) -> None:
    """Write NAME.json, NAME.csv, NAME.md and, with matplotlib, NAME.html.

    Args:
        output: folder.
        name: name of the benchmark.
        rows: results as JSON values.
        markdown: tables.
        sections: makes the parts of the page; no page by default.
        flat: lines of the CSV; the rows by default. Only single values are written.
    """
    about = describe_run()
    output.mkdir(parents=True, exist_ok=True)
    facts = {"about": about, "rows": rows}
    replace_file(output / f"{name}.json", json.dumps(facts, indent=1).encode())
    replace_file(output / f"{name}.csv", _csv(rows if flat is None else flat).encode())
    replace_file(output / f"{name}.md", (markdown + "\n").encode())
    if sections is None:
        return
    try:
        parts = [*sections(), report.section("Machine", report.table([about]))]
        report.write_report(output / f"{name}.html", f"python -m benchmarks {name}", parts)
    except MissingExtraError:
        return


def measure_once(
    output: Path,
    name: str,
    settings: Any,
    measure: Callable[[], Row],
    markdown: Callable[[Row], str],
    *,
    again: bool,
) -> str:
    """Measure something unless it was measured with the same settings; write and return a table."""
    kept = Rows(output / f"{name}.jsonl", settings, again=again)
    if not kept.rows:
        kept.add(measure())
    text = markdown(kept.rows[0])
    write_results(output, name, kept.rows[:1], text)
    return text


def read_results(output: Path, name: str) -> tuple[list[Row], Row]:
    """Return the rows of NAME.json, and on what they were measured.

    Raises:
        ConfigError: there is no such file.
    """
    file = output / f"{name}.json"
    if not file.is_file():
        raise ConfigError(f"there is no {file}; `python -m benchmarks {name}` makes it")
    facts = json.loads(file.read_text())
    return facts["rows"], facts["about"]


def describe_run() -> Row:
    """Return the commit, the command line, versions of what computes, and the machine."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    versions = {name: _version(name) for name in _COMPUTES}
    command = shlex.join(["python -m benchmarks", *sys.argv[1:]]).replace("'", "")
    return {"commit": done.stdout.strip(), "command": command, **versions, **describe_machine()}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def table(lines: Sequence[Row]) -> str:
    """Return a Markdown table; the columns are the keys of the first line."""
    if not lines:
        return ""
    cells = [list(lines[0]), ["---"] * len(lines[0])]
    cells += [[cell(value) for value in line.values()] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def cell(value: Any) -> str:
    """Return a value as a table shows it: three digits of a number, nothing for None."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _csv(rows: list[Row]) -> str:
    keys = dict.fromkeys(
        k for row in rows for k, v in row.items() if not isinstance(v, list | dict)
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(keys), extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
